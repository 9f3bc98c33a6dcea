"""What a stage is: a named, versioned step from an edit and earlier results to a payload.

Everything that depends on a stage's name is in its declaration. Plans, forecasts, shards, pages
and commands read the tuple `stages.pipeline.STAGES` and know no stage by name.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from adaptivedrag.config import EditConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.memory_ladder import TOP, Measure, Rung, ladder
from adaptivedrag.points import Frame
from adaptivedrag.section import Section
from artifacts import JSON, ArtifactError, Payload, digest_pixels
from stages.jobs.edit import Edit
from stages.resume import Checkpoints

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from adaptivedrag.model.diffusion import DiffusionModel
    from adaptivedrag.segmenter.segmenter import Segmenter
    from stages.planning.work import WorkItem


class InputMissing(ArtifactError):
    """A stage was asked for before what it needs was made; the message names it."""


class InputChanged(InvalidEdit):
    """A file of an edit is not what it was when the edit was planned."""


@contextmanager
def as_planned(edit: Edit, path: Path) -> Iterator[Callable[[bool], None]]:
    """Read a file of an edit that was readable when planned; yield the check of its bytes.

    Raises:
        InputChanged: if the file cannot be read any more, or the check fails.
    """

    def check(is_same: bool) -> None:
        if not is_same:
            raise InputChanged(f"edit {edit.id}: {path} changed after it was planned: run again")

    try:
        yield check
    except InputChanged:
        raise
    except (InvalidEdit, OSError) as error:
        raise InputChanged(
            f"edit {edit.id}: {path} changed after it was planned ({error}): run again"
        ) from error


OnStep: TypeAlias = Callable[[int, int], None]
"""Takes the number of finished steps and of all steps."""

EditInput = Literal["image", "prompt", "drags", "user_mask"]
"""What a stage may read of an edit itself."""

ModelKind = Literal["diffusion", "segmenter"]


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
    """The measures to save memory."""

    def image(self) -> "np.ndarray":
        """Return the image at its own size, uint8 RGB.

        Raises:
            InputChanged: if the file's pixels are not those that the plan was made for.
        """
        from stages.images import read_image

        with as_planned(self.edit, self.edit.image_path) as check:
            pixels = read_image(self.edit.image_path, self.edit.image.pixels)
            check(digest_pixels(pixels) == self.edit.image.digest)
        return pixels

    def working_image(self) -> "np.ndarray":
        """Return the image as the models see it, uint8 RGB, padded.

        Raises:
            InputChanged: as `image`.
        """
        from adaptivedrag.model.diffusion import working_image

        return working_image(self.image(), self.frame)


Run: TypeAlias = Callable[[Sequence[Work]], Sequence[Made]]
"""Does a stage for a batch of edits; returns what it made of each, in order."""


def one_by_one(run: Callable[[Work], Made]) -> Run:
    """Adapt a stage that does one edit at a time."""
    return lambda works: [run(work) for work in works]


def heard_by_all(works: Sequence[Work]) -> OnStep:
    """Return a callback that tells every edit of a batch of a step."""

    def on_step(step: int, steps: int) -> None:
        for work in works:
            work.on_step(step, steps)

    return on_step


@dataclass(frozen=True)
class Look:
    """An edit whose results are drawn.

    Attributes:
        pixels: its image, uint8 RGB.
        longest: the longest side of a drawing, in pixels.
    """

    edit: Edit
    pixels: "np.ndarray"
    frame: Frame
    longest: int


@dataclass(frozen=True)
class Tile:
    """A drawing of a part that a stage made.

    Attributes:
        is_optional: whether it is left out, instead of left empty, where nothing is made yet.
        overlay: draws it as a transparent picture of the image's size, which pages lay on the
            image; None: pages do not show it.
    """

    title: str
    part: str
    draw: "Callable[[Any, Look], Image.Image]"
    is_optional: bool = False
    overlay: "Callable[[Any, Frame], Image.Image] | None" = None


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        section: the class of its settings; a job's table of the same name sets them.
        reads: what it reads of the edit itself, with these settings.
        needs: the stages before it whose payloads it reads.
        models: the weights that it uses.
        run: does it for a batch of edits.
        also_in_key: settings that enter its key beside its own section.
        key_section: what of its own section enters its key; all of it by default.
        together: what has to be equal for edits to share a batch; None: each edit is done alone.
        memory_of_item: what each edit of a batch takes of a device's memory, as a share of what a
            pass of the UNet keeps of an item for the way back.
        off: says why an edit goes without the stage; "" if it does not.
        files: files of an edit that take the place of the work, by the names of inputs; their
            digests are then all that its key depends on.
        per_image: whether the edits of one image mostly share its artifact.
        first_guess: seconds that an artifact takes where no run was before: pocket models on two
            cores.
        steps: what its time grows with, by the settings in its key.
        alike: what else decides how long a step takes, by the names of its inputs.
        checkpoints: whether it leaves checkpoints while it works.
        saves_memory_by: what it can do where memory is short.
        at_once: items that it takes at once, which smaller batches halve.
        result: the part that is the edited image, if the stage makes one; a job's result is that of
            its last stage with one.
        region: the part that says where the image may change, if the stage makes one: gray, of the
            image's size, 0 where nothing may.
        tiles: drawings of what it made.
    """

    name: str
    version: int
    section: type[Section]
    reads: Callable[[EditConfig], tuple[EditInput, ...]]
    needs: tuple[str, ...]
    run: Run
    models: tuple[ModelKind, ...] = ()
    also_in_key: Callable[[EditConfig], Mapping[str, JSON]] = lambda _config: {}
    key_section: Callable[[Any], Mapping[str, JSON]] = lambda section: section.model_dump(
        mode="json"
    )
    together: "Callable[[WorkItem], Hashable] | None" = None
    memory_of_item: float = 0.1
    off: Callable[[Edit], str] = lambda _edit: ""
    files: Callable[[Edit], Mapping[str, Path]] = lambda _edit: {}
    per_image: bool = False
    first_guess: float = 10.0
    steps: Callable[[Mapping[str, Any]], int] = lambda _config: 1
    alike: Callable[[Collection[str]], Hashable] = lambda _inputs: None
    checkpoints: bool = False
    saves_memory_by: tuple[Measure, ...] = ()
    at_once: Callable[[EditConfig], int] = lambda _config: 1
    result: str = ""
    region: str = ""
    tiles: tuple[Tile, ...] = ()

    def ladder(self, config: EditConfig) -> tuple[Rung, ...]:
        """Return the ways to do the stage, each with less memory than the one before."""
        return ladder(self.saves_memory_by, self.at_once(config))

    def key_config(self, config: EditConfig) -> dict[str, JSON]:
        """Return the settings that enter the stage's key, as JSON."""
        # The working size acts through the frame, which is in every key as it came out.
        section = getattr(config, self.name)
        return {**self.key_section(section), **self.also_in_key(config)}
