"""Settings of the method, one frozen section per stage, and the runtime that never changes a pixel.

Everything in `EditConfig` enters a stage's key; nothing in `Runtime` does. Constants are written
for the latents of a family's own size, such as 64×64; `EditConfig.scaled_to` fits them to an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.methods import AnyMethod, Optimization
from adaptivedrag.methods.method import LoraChoice
from adaptivedrag.section import (
    REFERENCE,
    LatentScale,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
)

if TYPE_CHECKING:
    from adaptivedrag.model.architecture import Architecture

Dtype = Literal["float32", "bfloat16", "float16"]
Batch: TypeAlias = int | Literal["auto"]

SMALLEST_WORKING_SIZE = 64


def overlaid(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes on top; a section keeps the keys that the changes leave out.

    Another drag method keeps nothing of the present one.
    """
    found = dict(settings)
    for name, value in changes.items():
        present = found.get(name)
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            found[name] = value if _is_another(present, value) else {**present, **value}
        else:
            found[name] = value
    return found


def _is_another(section: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Tell whether changes name another drag method than the section has."""
    methods = (section.get("method"), changes.get("method"))
    return None not in methods and methods[0] != methods[1]


class TrainLoraConfig(Section):
    """Per-image LoRA (paper, Sec. 4.1)."""

    rank: Positive = 16
    steps: NonNegative = 80
    batch_size: Positive = 4
    learning_rate: PositiveFloat = 5e-4
    weight_decay: NonNegativeFloat = 1e-2


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
    """SAM 2's image features, a coloring of its automatic segments, or Lab colors (a control)."""
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
    content_margin: NonNegative = 8
    """Cells of the feature grid around the content that may change too; for the mode `content`."""
    line_extension: bool = True
    """Whether superpixels along the lines count, beside those of the handles."""


class SampleImageConfig(Section):
    """Correspondence sampling (Sec. 3.5)."""

    reference_control: bool = True
    """Self-attentions read the keys and values of the reference (mutual self-attention)."""
    reference_first_layer: NonNegative | None = None
    """First transformer block under reference control, in call order; None leaves the choice to the
    family of models: 10 of the 16 of Stable Diffusion 1.x, as in the paper."""
    correspondence: Literal["contrastive", "mse", "off"] = "contrastive"
    correspondence_radius: NonNegative = 5
    """Half size of the patches, in latent pixels."""
    correspondence_temperature: PositiveFloat = 0.07
    correspondence_rate: PositiveFloat = 0.01
    """Step size of the update, in units of the latents, per sampling step."""
    hold_background: bool = False
    """Latents outside the mask are those of the inversion at every step; not in the paper."""
    composite: bool = False
    """Pixels that were not generated are those of the image, or of the picture in which content was
    moved; not in the paper."""
    keep_texture: bool = False
    """Around a painted hole the picture gets back what the VAE took from it; not in the paper, and
    of no effect where latents were moved."""
    holes: Literal["smooth", "paint"] = "smooth"
    """What content leaves where it was moved in the picture: the smooth filling stays, and no model
    is used; or the model paints it. Not in the paper."""
    hole_rounds: Positive = 3
    """Times that each level of the painting is denoised."""


class LocateHandlesConfig(Section):
    """The independent witness (`adaptivedrag.witness`); not in the paper."""

    timestep: Annotated[int, Field(ge=0, lt=1000)] = 261
    """Noise level at which the image and the edited one are compared; drags work at another."""
    draws: Positive = 3
    """Draws of noise whose features are averaged."""


class EditConfig(Section):
    """All settings of an edit; section names are stage names."""

    dtype: Dtype = "float32"
    """Precision of the UNet, VAE and text encoder; latents, losses and scheduler stay float32."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    working_size: Annotated[int, Field(ge=SMALLEST_WORKING_SIZE)] | None = None
    """The models see at most the square of this many pixels; larger images are shrunk to it. None
    leaves it to the family of models: 768 for Stable Diffusion 1.x and 2.x, 1024 for SDXL."""
    train_lora: TrainLoraConfig = TrainLoraConfig()
    invert_image: InvertImageConfig = InvertImageConfig()
    extract_superpixels: ExtractSuperpixelsConfig = ExtractSuperpixelsConfig()
    build_mask: BuildMaskConfig = BuildMaskConfig()
    optimize_latent: AnyMethod = Optimization()
    sample_image: SampleImageConfig = SampleImageConfig()
    locate_handles: LocateHandlesConfig = LocateHandlesConfig()

    @model_validator(mode="after")
    def _levels_exist(self) -> Self:
        taken, there = self.optimize_latent.levels_down, self.invert_image.inverted_steps
        if taken > there:
            raise ValueError(
                f"optimize_latent.levels {taken} is more than invert_image.inverted_steps {there}"
            )
        return self

    @property
    def needs_segments(self) -> bool:
        """Whether the superpixels or the mask need SAM 2's automatic segments."""
        by_mask = self.build_mask.mode in ("segment", "union", "swept", "content")
        by_drag = self.optimize_latent.needs_segments
        return by_mask or by_drag or self.extract_superpixels.source == "segments"

    @property
    def samples(self) -> bool:
        """Whether the edited image comes from a model."""
        return self.optimize_latent.needs_latents or self.sample_image.holes == "paint"

    def no_lora(self, choice: LoraChoice) -> str:
        """Say why no LoRA is fitted to the image; "" if one is."""
        if not self.samples:
            return "no model makes the picture"
        return self.optimize_latent.no_lora(choice)

    @property
    def idle_in_sampling(self) -> dict[str, str]:
        """Why settings of `sample_image` do nothing beside the others, by their names."""
        method = f'the method is "{self.optimize_latent.method}"'
        of_painting = ["keep_texture", "hole_rounds"]
        if self.optimize_latent.needs_latents:
            return dict.fromkeys(["holes", *of_painting], method)
        updates = ("", "_radius", "_temperature", "_rate")
        of_latents = (*(f"correspondence{name}" for name in updates), "hold_background")
        idle = dict.fromkeys(of_latents, method)
        if self.sample_image.holes == "smooth":
            of_painting += ["composite", "reference_control", "reference_first_layer"]
            idle |= dict.fromkeys(of_painting, 'sample_image.holes is "smooth"')
        return idle

    @property
    def needs_segmenter(self) -> bool:
        """Whether SAM 2 is needed at all."""
        return self.needs_segments or self.extract_superpixels.source == "features"

    def merged(self, overrides: dict[str, Any]) -> Self:
        """Return these settings with `overrides` (nested by section) on top, validated again.

        Raises:
            pydantic.ValidationError: for an unknown key or a value out of range.
        """
        return type(self).model_validate(overlaid(self.model_dump(), overrides))

    def suited_to(self, family: "Architecture") -> Self:
        """Fill in what is left to the family of models: where reference control begins.

        Raises:
            InvalidEdit: if reference control would begin beyond the last transformer block.
        """
        first, blocks = self.sample_image.reference_first_layer, family.self_attentions
        if first is not None and first > blocks:
            raise InvalidEdit(
                f"sample_image.reference_first_layer = {first}, and {family.name} has {blocks} "
                "transformer blocks: name one of them, or leave it out"
            )
        first = family.first_controlled if first is None else first
        return self.merged({"sample_image": {"reference_first_layer": first}})

    def scaled_to(
        self,
        channels: int,
        height: int,
        width: int,
        reference: tuple[int, int, int] = REFERENCE,
    ) -> Self:
        """Fit the constants given for the reference to latents of `channels`×`height`×`width`.

        Counts follow the area, lengths its square root, and the summed background loss is
        divided by the number of its terms. The identity at the reference.

        Args:
            reference: channels, rows and columns that the architecture's constants are for.
        """
        scale = LatentScale.of(channels, height, width, reference)
        count = max(2, round(self.extract_superpixels.count * scale.area))
        radius = scale.cells(self.sample_image.correspondence_radius)
        return self.merged(
            {
                "extract_superpixels": {"count": count},
                "build_mask": {"content_margin": scale.cells(self.build_mask.content_margin)},
                "optimize_latent": self.optimize_latent.fitted_to(scale),
                "sample_image": {"correspondence_radius": radius},
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
    batch: Batch = "auto"
    """Most edits that go through a model together; "auto" takes as many as fit into a GPU's memory,
    and one on the CPU. Alone, an edit gives the same bytes there each time; in a batch its pixels
    agree with those within 1e-4 of their range (docs/batches.md has what a drag does)."""
    compile: bool = False
    """Compile the UNet's transformer blocks (`torch.compile`), which takes minutes at first."""
    channels_last: bool = False
    """Keep the weights and images of UNet and VAE with their channels last in memory."""
