"""What a stage is: a named, versioned step from an edit and earlier results to a payload."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from adaptivedrag.config import EditConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.memory_ladder import TOP, Measure, Rung, ladder
from adaptivedrag.points import Frame
from artifacts import (
    JSON,
    Action,
    Digest,
    Payload,
    StatCache,
    digest_bytes,
    digest_file,
    digest_json,
    digest_pixels,
)
from stages.jobs.edit import Edit
from stages.planning.models import DiffusionFiles, SegmenterFiles, diffusion_files, segmenter_files
from stages.resume import Checkpoints

if TYPE_CHECKING:
    import numpy as np

    from adaptivedrag.model.diffusion import DiffusionModel
    from adaptivedrag.segmenter.segmenter import Segmenter


class InputChanged(InvalidEdit):
    """A file of an edit is not what it was when the edit was planned."""


@contextmanager
def as_planned(edit: Edit, path: Path) -> Iterator[Callable[[bool], None]]:
    """Read a file of an edit that could be read when it was planned; give the check of its bytes.

    Raises:
        InputChanged: if the file cannot be read any more, or the check fails.
    """

    def check(is_same: bool) -> None:
        if not is_same:
            raise InputChanged(
                f"edit {edit.id}: {path} was changed after it was planned: run again"
            )

    try:
        yield check
    except InputChanged:
        raise
    except (InvalidEdit, OSError) as error:
        raise InputChanged(
            f"edit {edit.id}: {path} was changed after it was planned ({error}): run again"
        ) from error


OnStep = Callable[[int, int], None]
EditInput = Literal["image", "relocated_image", "prompt", "drags", "user_mask"]
"""`relocated_image` is the image, for a drag method that reads it."""


@dataclass(frozen=True)
class Made:
    """What a stage made: the payload to keep and what it says about its own work."""

    payload: Payload
    summary: Mapping[str, Any]
    """JSON; steps, losses, verdicts, warnings, passes of the UNet."""


@dataclass(frozen=True)
class Work:
    """Everything that a stage may read for one edit."""

    edit: Edit
    config: EditConfig
    """The edit's settings, fitted to its latents."""
    frame: Frame
    upstream: Mapping[str, Mapping[str, Any]]
    """Payloads of the stages that it needs, by stage and part."""
    load_diffusion: Callable[[], "DiffusionModel"]
    load_segmenter: Callable[[], "Segmenter"]
    checkpoints: Checkpoints
    on_step: OnStep
    rung: Rung = TOP
    """How it has to save memory."""

    def working_image(self) -> "np.ndarray":
        """Return the image as the models see it, uint8 RGB, padded.

        Raises:
            InputChanged: if the file's pixels are not those that the plan was made for.
        """
        from adaptivedrag.model.diffusion import working_image
        from stages.jobs.images import read_image

        with as_planned(self.edit, self.edit.image_path) as check:
            pixels = read_image(self.edit.image_path)
            check(digest_pixels(pixels) == self.edit.image.digest)
        return working_image(pixels, self.frame)


Run = Callable[[Sequence[Work]], Sequence[Made]]
"""Does a stage for a batch of edits; returns what it made of each, in order."""


def one_by_one(run: Callable[[Work], Made]) -> Run:
    """Adapt a stage that does one edit at a time."""
    return lambda works: [run(work) for work in works]


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline. Whatever it reads is declared here, and so is in its key."""

    name: str
    version: int
    reads: tuple[EditInput, ...]
    needs: tuple[str, ...]
    models: tuple[Literal["diffusion", "segmenter"], ...]
    run: Run
    checkpoints: bool = False
    """Whether it leaves checkpoints while it works."""
    saves_memory_by: tuple[Measure, ...] = ()
    batch: Callable[[EditConfig], int] = lambda _config: 1
    """Items that it takes at once."""

    def ladder(self, config: EditConfig) -> tuple[Rung, ...]:
        """Return the ways to do the stage, each with less memory than the one before."""
        return ladder(self.saves_memory_by, self.batch(config))


class HasValues(Protocol):
    """A result that a later stage needs, known by the digest of its values."""

    @property
    def logical(self) -> Digest:
        """Digest of the values."""
        ...


@dataclass(frozen=True)
class Setting:
    """What edits with the same settings, models and image size have in common."""

    config: EditConfig
    frame: Frame
    diffusion: DiffusionFiles
    segmenter: SegmenterFiles | None
    lora_file: Digest | None
    """Of the file that takes the place of training."""
    _of_stage: dict[str, tuple[dict[str, JSON], dict[str, Digest]]] = field(
        default_factory=dict, compare=False
    )

    @classmethod
    def of(cls, edit: Edit) -> "Setting":
        """Find an edit's models, and fit its settings to its latents.

        Raises:
            ModelUnavailable: if a model's files are not there.
            InvalidEdit: if the image is too small.
        """
        diffusion = diffusion_files(edit.model)
        frame = Frame.of_image(
            edit.image.height,
            edit.image.width,
            factor=diffusion.factor,
            working_size=edit.config.working_size,
        )
        config = _fitted(edit.config, diffusion.channels, frame.latent_size)
        segmenter = segmenter_files(edit.segmenter) if config.needs_segmenter else None
        lora = edit.lora if isinstance(edit.lora, Path) else None
        lora_file = Digest(StatCache().value(lora, "file", digest_file)) if lora else None
        return cls(config, frame, diffusion, segmenter, lora_file)

    def of_stage(self, stage: "Stage") -> tuple[dict[str, JSON], dict[str, Digest]]:
        """Return what enters the keys of a stage beside its inputs: settings, and weights."""
        if stage.name not in self._of_stage:
            config = {**_settings(self.config, stage.name), "frame": asdict(self.frame)}
            files = {"diffusion": self.diffusion, "segmenter": self.segmenter}
            models: dict[str, Digest] = {
                name: found.digest for name in stage.models if (found := files[name])
            }
            self._of_stage[stage.name] = config, models
        return self._of_stage[stage.name]


# Both are pure and cost milliseconds.
@cache
def _fitted(config: EditConfig, channels: int, size: tuple[int, int]) -> EditConfig:
    return config.scaled_to(channels, *size)


@cache
def _settings(config: EditConfig, stage: str) -> dict[str, JSON]:
    return config.for_stage(stage)


class Settings:
    """Finds the setting of each of many edits; nothing is found twice.

    Comparing settings costs more than all else here, so they are told apart by identity: edits of
    a job with equal settings have one and the same.
    """

    def __init__(self) -> None:
        """Know none yet."""
        self._found: dict[tuple[object, ...], tuple[EditConfig, Setting]] = {}

    def of(self, edit: Edit) -> Setting:
        """Return the setting of an edit; raises as `Setting.of`."""
        image = edit.image
        name = (
            *(id(edit.config), edit.lora, edit.model, edit.segmenter),
            *(image.width, image.height),
        )
        found = self._found.get(name)
        if found is None:
            # With its config, so that no other can come to have that identity.
            found = self._found[name] = edit.config, Setting.of(edit)
        return found[1]


@dataclass(frozen=True)
class Resolved:
    """An edit with its model files, its frame, and settings fitted to its latents."""

    edit: Edit
    setting: Setting

    @classmethod
    def of(cls, edit: Edit, settings: Settings | None = None) -> "Resolved":
        """Resolve an edit without loading a model.

        Raises:
            ModelUnavailable: if a model's files are not there.
            InvalidEdit: if the image is too small.
        """
        return cls(edit, settings.of(edit) if settings else Setting.of(edit))

    @property
    def config(self) -> EditConfig:
        """The edit's settings, fitted to its latents."""
        return self.setting.config

    @property
    def frame(self) -> Frame:
        """The sizes of its image."""
        return self.setting.frame

    @property
    def diffusion(self) -> DiffusionFiles:
        """Its Stable Diffusion."""
        return self.setting.diffusion

    @property
    def segmenter(self) -> SegmenterFiles | None:
        """Its SAM 2; None where neither superpixels nor mask need it."""
        return self.setting.segmenter

    def skips(self, stage: Stage) -> bool:
        """Tell whether the edit goes without this stage."""
        return stage.name == "train_lora" and self.edit.lora == "off"

    def action(self, stage: Stage, upstream: Mapping[str, HasValues]) -> Action:
        """Return the piece of work that `stage` is for this edit, given what went before."""
        if stage.name == "train_lora" and self.setting.lora_file:
            inputs = {"lora_file": self.setting.lora_file}
            return Action(stage.name, stage.version, {"source": "file"}, inputs, {})
        config, models = self.setting.of_stage(stage)
        own = self._inputs
        inputs = {name: digest for name in stage.reads if (digest := own[name])}
        for name in stage.needs:
            if name in upstream:
                inputs[name] = upstream[name].logical
        return Action(stage.name, stage.version, config, inputs, models)

    @cached_property
    def _inputs(self) -> Mapping[EditInput, Digest | None]:
        """Digests of what is the edit's own; None for what it has not."""
        edit = self.edit
        points = [[*map(float, (*drag.handle, *drag.target))] for drag in edit.drags]
        own_mask = self.config.build_mask.mode == "user"
        reads_image = self.config.optimize_latent.reads_image
        return {
            "image": edit.image.digest,
            "relocated_image": edit.image.digest if reads_image else None,
            "prompt": digest_bytes("prompt", edit.prompt.encode()),
            "drags": digest_json("drags", points),
            "user_mask": edit.mask_digest if own_mask else None,
        }
