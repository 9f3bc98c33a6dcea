"""Settings of the method, one frozen section per stage, and the runtime that never changes a pixel.

Everything in `EditConfig` enters a stage's key; nothing in `Runtime` does. Constants that the paper
and its baseline give for 512 px images and 64×64 latents are written here for that size;
`EditConfig.scaled_to` is the one place that fits them to another latent size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Dtype = Literal["float32", "bfloat16", "float16"]
Positive = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
RadiusRange = Annotated[tuple[Positive, Positive], Field(strict=False)]  # JSON and TOML have lists

SMALLEST_WORKING_SIZE = 64
REFERENCE_LATENT_SIZE = 64
REFERENCE_LATENT_CHANNELS = 4
CONTENT_VERSION = 2
"""Version of how content is found and moved (`adaptivedrag.warp.content`). Raise it when that
changes: it enters the keys of the stages that find content, and of no other."""


class Section(BaseModel):
    """Settings of one stage: frozen, and an unknown key or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def overlaid(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes on top; a section keeps the keys that the changes leave out."""
    found = dict(settings)
    for name, value in changes.items():
        are_sections = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = {**found[name], **value} if are_sections else value
    return found


class TrainLoraConfig(Section):
    """Per-image LoRA (paper, Sec. 4.1)."""

    rank: Positive = 16
    steps: Annotated[int, Field(ge=0)] = 80
    batch_size: Positive = 4
    learning_rate: PositiveFloat = 5e-4
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-2


class InvertImageConfig(Section):
    """DDIM inversion (Sec. 3.1 and 4.1): `inverted_steps` of `num_steps`, without guidance."""

    num_steps: Positive = 50
    inverted_steps: Positive = 35

    @model_validator(mode="after")
    def _inverted_steps_exist(self) -> Self:
        if self.inverted_steps > self.num_steps:
            raise ValueError(
                f"inverted_steps {self.inverted_steps} is more than num_steps {self.num_steps}"
            )
        return self


class ExtractSuperpixelsConfig(Section):
    """SLIC superpixels (Sec. 3.3)."""

    source: Literal["features", "segments", "rgb"] = "features"
    """SAM 2's image features, a colouring of its automatic segments, or Lab colours (a control)."""
    count: Positive = 200
    """Superpixels wanted in an image of 64×64 latents."""
    compactness: PositiveFloat = 0.05
    """Weight of distance against features in [0, 1]; a plain grid appears above 0.3."""
    feature_channels: Annotated[int, Field(ge=1, le=16)] = 6
    """Principal components of the features that SLIC sees."""


class BuildMaskConfig(Section):
    """The editable mask (Sec. 3.3)."""

    mode: Literal["superpixel_line", "segment", "union", "swept", "content", "user"] = (
        "superpixel_line"
    )
    """Superpixels of the handles and along the lines to their targets; the smallest automatic
    segment at each handle; both; that segment moved along the line; the content under the handles
    before and after its motion (`adaptivedrag.warp.content`); or the mask that is given."""
    content_margin: Annotated[int, Field(ge=0)] = 8
    """Cells of the feature grid around the content that may change too; for the mode `content`."""
    line_extension: bool = True
    """Whether superpixels along the lines count, beside those of the handles."""


class OptimizeLatentConfig(Section):
    """Semantic-driven optimisation (Sec. 3.4). Lengths are in pixels of the feature grid."""

    steps: Positive = 80
    """The user's number of steps n; l / n is a point's ideal distance per step."""
    max_steps: Positive = 300
    """n_max: the step budget never grows past it."""
    learning_rate: PositiveFloat = 0.01
    background_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    stop_distance: PositiveFloat = 2.0
    """A handle within this distance of its target has arrived."""
    skip_distance: PositiveFloat = 2.0
    """A handle within this distance of its target is not pulled any further."""
    supervision_radius: Positive | None = None
    """None: from the spacing of the superpixels, within `supervision_radius_range`."""
    supervision_radius_range: RadiusRange = (1, 8)
    tracking_radius: Positive | None = None
    tracking_radius_range: RadiusRange = (3, 20)
    region_anchor: Literal["current", "transported"] = "current"
    """Whose superpixel bounds the region: that of the handle now, or its first one moved along."""
    regions_in_supervision: bool = True
    regions_in_tracking: bool = True
    backtracking: bool = True
    """Only forward steps count, and short ones lengthen the budget (Sec. 3.4.1)."""
    overshoot_returns: bool = True
    """A handle that was tracked past its target may come back along its way; not in the paper."""
    relocation: bool = False
    """Move the content under the handles in the picture first; not in the paper."""
    patience: Positive = 40
    """Stop when no handle has advanced for this many steps."""

    @model_validator(mode="after")
    def _budget_covers_steps(self) -> Self:
        if self.max_steps < self.steps:
            raise ValueError(f"max_steps {self.max_steps} is less than steps {self.steps}")
        return self


class SampleImageConfig(Section):
    """Correspondence sampling (Sec. 3.5)."""

    reference_control: bool = True
    """Self-attentions read the keys and values of the reference (mutual self-attention)."""
    reference_first_layer: Annotated[int, Field(ge=0, le=16)] = 10
    """First transformer block under reference control, of the 16 in call order."""
    correspondence: Literal["contrastive", "mse", "off"] = "contrastive"
    correspondence_radius: Annotated[int, Field(ge=0)] = 5
    """Half size of the patches, in latent pixels."""
    correspondence_temperature: PositiveFloat = 0.07
    correspondence_rate: PositiveFloat = 0.01
    """Step size of the update, in units of the latents, per sampling step."""
    hold_background: bool = False
    """Latents outside the mask are those of the inversion at every step; not in the paper."""


class EditConfig(Section):
    """All settings of an edit; section names are stage names."""

    dtype: Dtype = "float32"
    """Precision of the UNet, VAE and text encoder; latents, losses and scheduler stay float32."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    working_size: Annotated[int, Field(ge=SMALLEST_WORKING_SIZE)] = 768
    """The models see at most the square of this many pixels; larger images are shrunk to it."""
    train_lora: TrainLoraConfig = TrainLoraConfig()
    invert_image: InvertImageConfig = InvertImageConfig()
    extract_superpixels: ExtractSuperpixelsConfig = ExtractSuperpixelsConfig()
    build_mask: BuildMaskConfig = BuildMaskConfig()
    optimize_latent: OptimizeLatentConfig = OptimizeLatentConfig()
    sample_image: SampleImageConfig = SampleImageConfig()

    @property
    def needs_segments(self) -> bool:
        """Whether the superpixels or the mask need SAM 2's automatic segments."""
        by_mask = self.build_mask.mode in ("segment", "union", "swept", "content")
        by_drag = self.optimize_latent.relocation
        return by_mask or by_drag or self.extract_superpixels.source == "segments"

    @property
    def needs_segmenter(self) -> bool:
        """Whether SAM 2 is needed at all."""
        return self.needs_segments or self.extract_superpixels.source == "features"

    def for_stage(self, stage: str) -> dict[str, Any]:
        """Return what enters the key of `stage`: its section and the shared settings it reads."""
        # The working size acts through the frame, which is in every key as it came out.
        shared: dict[str, Any] = {}
        if stage not in ("extract_superpixels", "build_mask"):
            shared["dtype"] = self.dtype
        if stage == "extract_superpixels":
            shared["segments"] = self.needs_segments
        if stage == "train_lora":
            shared["seed"] = self.seed
        if stage in ("optimize_latent", "sample_image"):
            shared["inversion"] = self.invert_image.model_dump(mode="json")
        if self._finds_content(stage):
            shared["content"] = CONTENT_VERSION
        return {**getattr(self, stage).model_dump(mode="json"), **shared}

    def _finds_content(self, stage: str) -> bool:
        return (stage == "build_mask" and self.build_mask.mode == "content") or (
            stage == "optimize_latent" and self.optimize_latent.relocation
        )

    def merged(self, overrides: dict[str, Any]) -> Self:
        """Return these settings with `overrides` (nested by section) on top, validated anew.

        Raises:
            pydantic.ValidationError: for an unknown key or a value out of range.
        """
        return type(self).model_validate(overlaid(self.model_dump(), overrides))

    def scaled_to(self, channels: int, height: int, width: int) -> Self:
        """Fit the constants given for 4×64×64 latents to latents of `channels`×`height`×`width`.

        Counts follow the area, lengths its square root, and the summed background loss is
        divided by the number of its terms. The identity at 4×64×64.
        """
        area = height * width / REFERENCE_LATENT_SIZE**2
        length = math.sqrt(area)
        terms = area * channels / REFERENCE_LATENT_CHANNELS
        drag, sample = self.optimize_latent, self.sample_image

        def scaled_length(value: int) -> int:
            return max(1, round(value * length)) if value else 0

        def scaled_radius(value: int | None) -> int | None:
            return None if value is None else scaled_length(value)

        def scaled_range(bounds: RadiusRange) -> RadiusRange:
            return scaled_length(bounds[0]), scaled_length(bounds[1])

        return self.merged(
            {
                "extract_superpixels": {
                    "count": max(2, round(self.extract_superpixels.count * area))
                },
                "build_mask": {"content_margin": scaled_length(self.build_mask.content_margin)},
                "optimize_latent": {
                    "background_weight": drag.background_weight / terms,
                    "stop_distance": drag.stop_distance * length,
                    "skip_distance": drag.skip_distance * length,
                    "supervision_radius": scaled_radius(drag.supervision_radius),
                    "tracking_radius": scaled_radius(drag.tracking_radius),
                    "supervision_radius_range": scaled_range(drag.supervision_radius_range),
                    "tracking_radius_range": scaled_range(drag.tracking_radius_range),
                },
                "sample_image": {
                    "correspondence_radius": scaled_length(sample.correspondence_radius)
                },
            }
        )


@dataclass(frozen=True)
class Runtime:
    """Where and how fast work is done; never enters a key, never changes a result's meaning."""

    device: str = "cpu"
    threads: int | None = None
    """Threads of torch on the CPU; None leaves torch's own choice."""
    checkpoint_every: int = 20
    """Steps of a long stage between two checkpoints; 0 keeps none."""
