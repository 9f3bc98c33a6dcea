"""What a stage is: a named, versioned step from an edit and earlier results to a payload."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adaptivedrag.config import EditConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.memory_ladder import TOP, Measure, Rung, ladder
from adaptivedrag.points import Frame
from artifacts import (
    JSON,
    Action,
    Digest,
    Payload,
    Record,
    StatCache,
    digest_bytes,
    digest_file,
    digest_json,
    digest_pixels,
)
from stages.checkpoints import Checkpoints
from stages.job import Edit
from stages.models import DiffusionFiles, SegmenterFiles, diffusion_files, segmenter_files

if TYPE_CHECKING:
    import numpy as np

    from adaptivedrag.model import DiffusionModel
    from adaptivedrag.segmentation import Segmenter


# Most edits of a job share their settings and sizes; both are pure and cost milliseconds.
@cache
def _fitted(config: EditConfig, channels: int, size: tuple[int, int]) -> EditConfig:
    return config.scaled_to(channels, *size)


@cache
def _settings(config: EditConfig, stage: str) -> dict[str, JSON]:
    return config.for_stage(stage)


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
EditInput = Literal["image", "prompt", "drags", "user_mask", "lora_file"]


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
        from adaptivedrag.model import working_image
        from stages.images import read_image

        with as_planned(self.edit, self.edit.image_path) as check:
            pixels = read_image(self.edit.image_path)
            check(digest_pixels(pixels) == self.edit.image.digest)
        return working_image(pixels, self.frame)


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline. Whatever it reads is declared here, and so is in its key."""

    name: str
    version: int
    reads: tuple[EditInput, ...]
    needs: tuple[str, ...]
    models: tuple[Literal["diffusion", "segmenter"], ...]
    run: Callable[[Work], Made]
    checkpoints: bool = False
    """Whether it leaves checkpoints while it works."""
    saves_memory_by: tuple[Measure, ...] = ()
    batch: Callable[[EditConfig], int] = lambda _config: 1
    """Items that it takes at once."""

    def ladder(self, config: EditConfig) -> tuple[Rung, ...]:
        """Return the ways to do the stage, each with less memory than the one before."""
        return ladder(self.saves_memory_by, self.batch(config))


@dataclass(frozen=True)
class Resolved:
    """An edit with its model files, its frame, and settings fitted to its latents."""

    edit: Edit
    config: EditConfig
    frame: Frame
    diffusion: DiffusionFiles
    segmenter: SegmenterFiles | None
    """None where neither superpixels nor mask need it."""

    @classmethod
    def of(cls, edit: Edit) -> "Resolved":
        """Resolve an edit without loading a model.

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
        return cls(edit, config, frame, diffusion, segmenter)

    def skips(self, stage: Stage) -> bool:
        """Tell whether the edit goes without this stage."""
        return stage.name == "train_lora" and self.edit.lora == "off"

    def action(self, stage: Stage, upstream: Mapping[str, Record]) -> Action:
        """Return the piece of work that `stage` is for this edit, given what went before."""
        external = stage.name == "train_lora" and isinstance(self.edit.lora, Path)
        if external:
            return Action(
                stage.name, stage.version, {"source": "file"}, self._inputs(("lora_file",)), {}
            )
        config = {**_settings(self.config, stage.name), "frame": asdict(self.frame)}
        inputs = self._inputs(stage.reads)
        inputs |= {name: upstream[name].logical for name in stage.needs if name in upstream}
        files = {"diffusion": self.diffusion, "segmenter": self.segmenter}
        models: dict[str, Digest] = {
            name: found.digest for name in stage.models if (found := files[name])
        }
        return Action(stage.name, stage.version, config, inputs, models)

    def _inputs(self, names: tuple[EditInput, ...]) -> dict[str, Digest]:
        found = {name: self._input(name) for name in names}
        return {name: digest for name, digest in found.items() if digest is not None}

    def _input(self, name: EditInput) -> Digest | None:
        edit = self.edit
        match name:
            case "image":
                return edit.image.digest
            case "prompt":
                return digest_bytes("prompt", edit.prompt.encode())
            case "drags":
                points = [[*map(float, (*drag.handle, *drag.target))] for drag in edit.drags]
                return digest_json("drags", points)
            case "user_mask":
                return edit.mask_digest if self.config.build_mask.mode == "user" else None
            case "lora_file":
                if not isinstance(edit.lora, Path):
                    return None
                return Digest(StatCache().digest(edit.lora, "file", digest_file))
