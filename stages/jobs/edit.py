"""A checked job: what the stages are given. Nothing here knows how a job is written down."""

import difflib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from adaptivedrag.config import EditConfig
from adaptivedrag.drag_notes import drag_notes
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.methods.method import LoraChoice
from adaptivedrag.model.lora_files import LoraFile
from adaptivedrag.points import Drag
from adaptivedrag.presets import DEFAULT_PRESET
from artifacts import Digest
from stages.jobs.image_files import ImageInfo

BASELINE = "baseline"
"""What the job as it is is called beside its variants; its edits have this tag then."""
BROKEN = "broken JSON"
"""How reasons begin that say that a line is no JSON."""

Lora: TypeAlias = LoraChoice | LoraFile


class NoSuchEdit(InvalidEdit, KeyError):
    """A job has no edit of that id, or none that can be done."""

    __str__ = InvalidEdit.__str__  # a KeyError shows quotes


@dataclass(frozen=True)
class SceneEdit:
    """The drag of a rendered scene whose true result is known.

    Attributes:
        number: of `adaptivedrag.scenes.benchmark_scene`.
        drag: index into `adaptivedrag.scenes.drags` of that scene.
    """

    number: int
    drag: int


@dataclass(frozen=True)
class Edit:
    """One edit, checked: its files were there and its points lie inside its image."""

    id: str
    image_path: Path
    image: ImageInfo
    prompt: str
    drags: tuple[Drag, ...]
    tags: tuple[str, ...]
    mask_path: Path | None
    mask_digest: Digest | None
    config: EditConfig
    lora: Lora
    model: str
    segmenter: str
    vae: str | None = None
    """In the place of the model's own."""
    preset: str = DEFAULT_PRESET
    """The name of the preset that its settings are on top of."""
    scene: SceneEdit | None = None
    variant: str = ""
    """Which of its job's variants it is; "" for the job as it is."""
    unused: tuple[str, ...] = ()
    """Settings that nothing reads, and why."""
    mask_notes: tuple[str, ...] = ()
    """How its mask is used and read, and what is odd about it."""
    prompt_notes: tuple[str, ...] = field(default=(), compare=False)
    """Where its model stops reading its prompt, if it is too long; found by planning."""

    @property
    def base_id(self) -> str:
        """The id of the edit that it is a variant of; its own if it is none."""
        return _base_of(self.id, self.variant)

    @property
    def no_lora(self) -> str:
        """Why it goes without a LoRA; "" if it has one."""
        if isinstance(self.lora, LoraFile):
            return ""
        return self.config.no_lora(self.lora)

    @property
    def points(self) -> list[list[float]]:
        """Its drags as numbers, as keys and pages have them: handle x and y, target x and y."""
        return [[*map(float, (*drag.handle, *drag.target))] for drag in self.drags]

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user may not expect: conversions, odd drags, its prompt, settings, its mask."""
        of_image, of_drags = self.image.notes, drag_notes(self.drags)
        return (*of_image, *of_drags, *self.prompt_notes, *self.unused, *self.mask_notes)


@dataclass(frozen=True)
class BadEdit:
    """An edit that cannot be done as it is written.

    Attributes:
        id: its id, or "line 7" if it has no usable id of its own.
        line: in the edits file, from 1.
        field: such as "drags[0].target".
        reason: one line: the field, the value and the remedy.
    """

    id: str
    line: int
    field: str
    reason: str
    tags: tuple[str, ...] = ()
    variant: str = ""
    """As of an edit."""

    @property
    def base_id(self) -> str:
        """As of an edit."""
        return _base_of(self.id, self.variant)

    @property
    def is_broken(self) -> bool:
        """Whether its line is no JSON at all."""
        return self.reason.startswith(BROKEN)

    def __str__(self) -> str:
        place = "" if self.id == f"line {self.line}" else f" (line {self.line})"
        return f"{self.id}{place}: {self.reason}"


def _base_of(name: str, variant: str) -> str:
    return name.removesuffix(f".{variant}") if variant else name


@dataclass(frozen=True)
class Job:
    """A job, checked.

    Attributes:
        order: ids of all edits of the file, good and bad, including those not selected; each is
            followed by those of its variants.
        variants: their names.
    """

    name: str
    path: Path
    edits: tuple[Edit, ...]
    bad: tuple[BadEdit, ...]
    order: tuple[str, ...]
    variants: tuple[str, ...] = ()


def find_edit(job: Job, name: str) -> Edit:
    """Return an edit of a job.

    Raises:
        NoSuchEdit: if there is none of this id, or it cannot be done as it is written.
    """
    if not isinstance(name, str):
        raise NoSuchEdit(f"{name!r:.60} is a {type(name).__name__}, not the id of an edit")
    for edit in job.edits:
        if edit.id == name:
            return edit
    for bad in job.bad:
        if bad.id == name:
            raise NoSuchEdit(f"edit {bad}")
    close = difflib.get_close_matches(name, job.order, n=1)
    hint = f": did you mean {close[0]!r}?" if close else ""
    raise NoSuchEdit(f"{job.path} has no edit {name!r}{hint}")


def by_variant(job: Job) -> dict[str, Job]:
    """Return the parts of a job by name: the job as it is first, then each variant.

    The edits of all parts have the ids of the job as it is; what is bad there is bad in all parts.
    """
    told: tuple[Edit | BadEdit, ...] = (*job.edits, *job.bad)
    names = {each.id: each.base_id for each in told}
    order = tuple(dict.fromkeys(names.get(name, name) for name in job.order))
    parts = {}
    for variant in ("", *job.variants):
        edits = (edit for edit in job.edits if edit.variant == variant)
        bad = (each for each in job.bad if each.variant in ("", variant))
        parts[variant or BASELINE] = Job(
            variant or job.name,
            job.path,
            tuple(replace(edit, id=edit.base_id) for edit in edits),
            tuple(replace(each, id=each.base_id) for each in bad),
            order,
        )
    return parts
