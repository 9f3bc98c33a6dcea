"""A job and what was made of it, for Python: read from the store when it is asked for.

`stages.Job` reads; it makes nothing and changes nothing.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.masks import Mask
from artifacts import ArtifactCorrupt, ArtifactError, ArtifactStore
from stages.images import Pixels, read_image
from stages.jobs.edit import BadEdit, Edit, find_edit
from stages.jobs.reader import load_job
from stages.pipeline import BY_NAME, RESULT, STAGE_NAMES
from stages.planning.plan import EditPlan, StagePlan, Status, plan_edits
from stages.stage import Look

if TYPE_CHECKING:
    from PIL import Image

STORE = "./.adaptivedrag"
"""Where the commands keep results, too."""


class NotMade(ArtifactError, LookupError):
    """Something of an edit is not in the store; the message says what makes it."""


class Job(Mapping[str, "MadeEdit"]):
    """What the stages made of each edit of a job, by the edit's id, in the order of its file.

    Attributes:
        bad: edits that cannot be done as they are written, with the reason.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, store: str | os.PathLike[str] = STORE
    ) -> None:
        """Read a job file and its edits; a store that does not exist yet counts as empty.

        Args:
            store: a folder, or a URL such as s3://bucket/prefix.

        Raises:
            InvalidEdit: if the job cannot be read.
            StoreUnavailable: if the store cannot be opened.
        """
        if not isinstance(path, str | os.PathLike):
            raise InvalidEdit(
                f"the job is a {type(path).__name__}: name a job file, such as job.toml"
            )
        self._path, self._location = Path(path), os.fspath(store)
        self._job = load_job(self._path)
        self._store = ArtifactStore.open_to_read(self._location)
        self.bad: tuple[BadEdit, ...] = self._job.bad

    def __getitem__(self, name: str) -> "MadeEdit":
        """Return the results of an edit, as they are now.

        Raises:
            NoSuchEdit: a KeyError; if there is none of this id, or it cannot be done.
            ModelUnavailable: if the files of its model are not there.
        """
        (plan,) = plan_edits([find_edit(self._job, name)], self._store)
        return MadeEdit(plan, self._store, self._command(name))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of the edits that can be done."""
        return (edit.id for edit in self._job.edits)

    def __len__(self) -> int:
        """Return how many edits can be done."""
        return len(self._job.edits)

    def __repr__(self) -> str:
        return f"Job({str(self._path)!r}, store={self._location!r})"

    def _command(self, name: str) -> str:
        words = ["adaptivedrag", "run", str(self._path), "--select", name]
        return shlex.join(words + (["--store", self._location] if self._location != STORE else []))


class MadeEdit:
    """What the stages made of one edit. Arrays are read when they are asked for, and once.

    Attributes:
        edit: its drags, prompt, settings and notes.
    """

    def __init__(self, plan: EditPlan, store: ArtifactStore, command: str) -> None:
        """Read the results that a plan has found; `command` makes what is missing."""
        self.edit: Edit = plan.edit
        self._plan, self._store, self._command = plan, store, command
        self._payloads: dict[str, Mapping[str, Any]] = {}

    @property
    def made(self) -> tuple[str, ...]:
        """The stages whose results are there, in order."""
        return tuple(name for name, each in self._plan.stages.items() if each.status is Status.HIT)

    @property
    def drag(self) -> Mapping[str, Any]:
        """What the drag's own tracker says: its verdict, points, steps and budget; {} if the drag
        is not made.
        """
        return self._plan.drag

    @property
    def witness(self) -> Mapping[str, Any]:
        """What the independent witness says of the edited image: its verdict and points; {} if it
        was not asked.
        """
        return self._plan.witness

    @cached_property
    def original(self) -> Pixels:
        """The image that is edited, uint8 sRGB (height, width, 3)."""
        return read_image(self.edit.image_path, self.edit.image.pixels)

    @property
    def image(self) -> Pixels:
        """The edited image, uint8 sRGB (height, width, 3)."""
        pixels: Pixels = self.read(RESULT.name)[RESULT.result]
        return pixels

    @property
    def mask(self) -> Mask:
        """Where the image may change, bool (height, width)."""
        picture: np.ndarray[Any, Any] = self.read("build_mask")["picture"]
        return picture > 0

    @property
    def superpixels(self) -> "np.ndarray[Any, Any]":
        """The number of the superpixel of each cell of the feature grid, int (rows, columns)."""
        labels: np.ndarray[Any, Any] = self.read("extract_superpixels")["labels"]
        return labels

    @property
    def latents(self) -> "np.ndarray[Any, Any]":
        """The inversion's latents (level, channel, row, column), from the image to the noisiest."""
        latents: np.ndarray[Any, Any] = self.read("invert_image")["latents"]
        return latents

    @property
    def lora(self) -> "dict[str, np.ndarray[Any, Any]]":
        """The weights of the LoRA, by name."""
        weights: dict[str, np.ndarray[Any, Any]] = self.read("train_lora")["lora"]
        return weights

    def read(self, stage: str) -> Mapping[str, Any]:
        """Return all that a stage made, by part.

        Raises:
            NotMade: if it is not there: why, and the command that makes it.
            InvalidEdit: if there is no such stage.
        """
        if stage not in self._plan.stages:
            raise InvalidEdit(f"there is no stage {stage!r}: name one of {', '.join(STAGE_NAMES)}")
        if stage not in self._payloads:
            self._payloads[stage] = self._read(self._plan.stages[stage])
        return self._payloads[stage]

    def files(self, stage: str) -> Mapping[str, bytes]:
        """Return the files of all that a stage made, as they lie in the store, by path.

        Raises:
            NotMade, InvalidEdit: as `read`.
        """
        self.read(stage)
        record = self._plan.stages[stage].record
        assert record is not None
        return self._store.verified(record).files

    def look(self, longest: int) -> Look:
        """Return what drawings show: the edit, its image, and `longest`, their longest side.

        Raises:
            InvalidEdit: if the image cannot be read any more.
        """
        return Look(self.edit, self.original, self._plan.resolved.frame, longest)

    def drawings(self, stage: str, longest: int = 512) -> "dict[str, Image.Image]":
        """Return drawings of what a stage made, by title, such as that of a mask on the image.

        Args:
            longest: their longest side, in pixels.

        Raises:
            NotMade, InvalidEdit: as `read` and `look`.
        """
        parts, tiles = self.read(stage), BY_NAME[stage].tiles
        shown = [tile for tile in tiles if tile.part in parts]
        return {tile.title: tile.draw(parts[tile.part], self.look(longest)) for tile in shown}

    def _read(self, staged: StagePlan) -> Mapping[str, Any]:
        place = f"edit {self.edit.id}: {staged.stage}"
        if staged.status is Status.OFF:
            raise NotMade(f"{place} is not part of it, because {staged.why}")
        if staged.found is None or staged.status is not Status.HIT:
            raise NotMade(f"{place} is not there, {self._why_missing(staged)}")
        try:
            return self._store.read(staged.found.record)
        except ArtifactCorrupt as error:
            raise NotMade(f"{place} is damaged ({error}): run `{self._command}`") from error

    def _why_missing(self, staged: StagePlan) -> str:
        if failed := self._plan.failed:
            return f"{failed.stage} {failed.why}: run `{self._command} --retry-failed`"
        return f"{staged.why if staged.found else 'it is not made yet'}: run `{self._command}`"

    def __repr__(self) -> str:
        return f"<results of {self.edit.id}: {', '.join(self.made) or 'nothing is made yet'}>"
