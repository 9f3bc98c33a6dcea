"""What a run leaves for the user, as soon as each edit is done, whichever process does it.

    OUT/images/<id>.png    the edited images
    OUT/results.jsonl      lines about edits: the witness's verdict and the tracker's, paths, keys,
                           seconds, or the reason; the last line of an edit counts
    OUT/index.html         before, mask and after of every edit; small pictures in OUT/thumbs
    OUT/job.json           whose results these are

OUT is a folder, or a URL of object storage, where a line is an object of its own until the table is
next written: OUT/rows/<id>.json. Files appear whole or not at all. A finished picture is never
taken away: where its settings have changed since, it stays until its successor is there.
"""

import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from artifacts import ArtifactError, ArtifactStore, digest_json
from artifacts.places.backend import Backend, Entry
from stages.failures import Failure
from stages.garbage import collector_paused
from stages.jobs.edit import BadEdit, Edit, Job
from stages.pipeline import RESULT, STAGES, WITNESS
from stages.planning.plan import EditPlan, Status
from stages.reports.wording import warnings_of
from stages.stage import Look, Tile

if TYPE_CHECKING:
    from PIL import Image

ResultRow: TypeAlias = dict[str, Any]

TABLE, PAGE, OWNER, IMAGES, THUMBS, ROWS = (
    "results.jsonl",
    "index.html",
    "job.json",
    "images",
    "thumbs",
    "rows",
)
THUMB = 256
"""Longest side of a small picture, in pixels."""
_FORM = 3
"""Raise when rows change, so that old ones are not taken over."""
_DRAWING = 1
"""Raise when small pictures are drawn differently, so that old ones are not taken for new."""
_THUMB_FILE = re.compile(rf"{THUMBS}/[0-9a-f]{{32}}\.jpg")


class ReportUnwritable(AdaptiveDragError, OSError):
    """The folder of the results cannot be written; the message names it."""


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Name the place where results could not be written.

    Raises:
        ReportUnwritable: for any error of the file system.
    """
    try:
        yield
    except ReportUnwritable:
        raise
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise ReportUnwritable(f"{place} is in the way: name another with --out") from error
    except (AdaptiveDragError, ArtifactError):
        raise
    except OSError as error:
        raise ReportUnwritable(
            f"{place} cannot be written ({error.strerror}): name another with --out"
        ) from error


class Place:
    """The folder or URL of results; every failure there is a `ReportUnwritable`."""

    def __init__(self, out: str | Path) -> None:
        """Make the folder, if there is none."""
        self.out = str(out)
        with self._reported():
            self._backend = Backend.open(out, create=True)
        self.root = self._backend.root

    def put(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with self._reported():
            self._backend.put(path, data)

    def get(self, path: str) -> bytes:
        """Return the bytes of a file; none if it is not there."""
        with self._reported():
            return self._backend.get(path) or b""

    def stamp(self, path: str) -> str | None:
        """Return what changes when a file is written again; None if it is not there."""
        with self._reported():
            entry = self._backend.entry(path)
        return None if entry is None else _stamp(entry)

    def stamps(self, folder: str) -> dict[str, str]:
        """Return the stamps of all files below a folder, by path."""
        with self._reported():
            return {
                f"{folder}/{entry.path}": _stamp(entry) for entry in self._backend.entries(folder)
            }

    def names(self, folder: str) -> set[str]:
        """Return the paths of all files in a folder; on a disk without a look at each of them."""
        if self.root is None:
            return set(self.stamps(folder))
        with self._reported(), suppress(FileNotFoundError):
            return {f"{folder}/{name}" for name in os.listdir(self.root / folder)}
        return set()

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files."""
        with self._reported():
            self._backend.delete(paths)

    def append(self, path: str, data: bytes) -> None:
        """Add to a file of a folder."""
        with self._reported(), self.locked():
            self._backend.append(path, data)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of this machine from writing the table."""
        if self.root is None:
            yield
            return
        with self._reported():
            self._backend.append(".lock", b"")
            lock = (self.root / ".lock").open("ab")
        with lock:
            with suppress(OSError):  # some shared file systems know no locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (ArtifactError, OSError) as error:
            reason = str(error).removeprefix(f"{self.out}: ")
            raise ReportUnwritable(
                f"results cannot be written to {self.out} ({reason}): "
                "make room, or name another folder with --out"
            ) from error


@dataclass
class Results:
    """The results of one job at one place."""

    job: Job
    store: ArtifactStore
    place: Place
    rows: dict[str, ResultRow] = field(default_factory=dict)
    """The row of each edit that has one, by id."""
    own: set[str] = field(default_factory=set)
    """Ids of the edits whose rows this process has brought up to date."""

    @classmethod
    @collector_paused()
    def open(cls, job: Job, store: ArtifactStore, out: str | Path) -> "Results":
        """Claim a place for a job, and read what is there.

        Raises:
            InvalidEdit: if it is another job's, lies in the store, or a result would take the place
                of an input.
            ReportUnwritable: if it cannot be written.
        """
        _refuse_places_of_others(job, store, out)
        results = cls(job, store, Place(out))
        results._claim()
        results.rows = results._read_rows()
        return results

    @property
    def page(self) -> str:
        """Where the page is."""
        return f"{self.place.out.rstrip('/')}/{PAGE}"

    def put(self, plan: EditPlan, failure: Failure | None = None) -> ResultRow:
        """Write the picture of an edit and its line, at once.

        Raises:
            ReportUnwritable: if the place cannot be written.
            StoreUnavailable: if the store cannot be read.
        """
        row = self._row(plan, failure, draws=True)
        self.rows[plan.edit.id] = row
        self.own.add(plan.edit.id)
        self._add_line(row)
        return row

    def begin(self, plans: Iterable[EditPlan]) -> None:
        """Note every edit of a run, so that the page shows what is still to come.

        Nothing is drawn for what is not done: that would keep thousands of edits waiting.
        """
        self._update(plans, {}, draws=False)
        self._write_table()

    @collector_paused()
    def finish(
        self, plans: Iterable[EditPlan], failures: Iterable[Failure] = (), *, banner: str = ""
    ) -> dict[str, str]:
        """Write everything that is not up to date: pictures, table and page.

        Edits of the job's file that are not among the plans keep the rows they had.

        Args:
            banner: says what other processes may still be at.

        Returns:
            By id the edits whose finished image turned out to be damaged, with the reason.

        Raises:
            ReportUnwritable: if the place cannot be written.
            StoreUnavailable: if the store cannot be read.
        """
        failed = {failure.id: failure for failure in failures}
        is_new = self._update(plans, failed, draws=True)
        if is_new or not self._is_finished():
            self._write_table()
            self._sweep()
            self._write_page(banner)
            self._write_owner(finished=not banner)
        return {
            name: row["reason"]
            for name, row in self.rows.items()
            if row.get("object_damaged") and name not in failed
        }

    def renew_page(self, banner: str) -> None:
        """Write the page again from all lines, also those of other processes.

        Args:
            banner: says that a run goes on.
        """
        self._write_owner(finished=False)
        self.rows = self._read_rows()
        self._write_page(banner)

    def latest(self) -> dict[str, ResultRow]:
        """Read the row of each edit, also those that other processes have written."""
        return self._read_rows()

    # Rows

    def _update(
        self, plans: Iterable[EditPlan], failures: Mapping[str, Failure], *, draws: bool
    ) -> bool:
        """Bring rows up to date; return whether any changed."""
        before = self.rows
        found = {bad.id: _bad_row(bad) for bad in self.job.bad}
        for plan in plans:
            name = plan.edit.id
            found[name] = self._row(plan, failures.get(name), draws=draws)
        self.own |= found.keys()
        found = {**before, **found}
        self.rows = {name: found[name] for name in self.job.order if name in found}
        return self.rows != before

    def _row(self, plan: EditPlan, failure: Failure | None, *, draws: bool) -> ResultRow:
        """Return the row of an edit; the one that there was, if it still says what it should."""
        made_of = _made_of(plan, failure)
        old = self.rows.get(plan.edit.id, {})
        if old.get("made_of") == made_of and self._is_there(old):
            return old
        row = self._new_row(plan, failure, old, draws=draws)
        complete = "object_damaged" not in row and (draws or row["status"] == "done")
        return {**row, "made_of": made_of} if complete else row

    def _new_row(
        self, plan: EditPlan, failure: Failure | None, old: ResultRow, *, draws: bool
    ) -> ResultRow:
        row = {**_facts(plan), "id": plan.edit.id, "status": "unfinished", "thumbs": {}}
        if draws or plan.done:
            row["thumbs"] = self._thumbs(plan)
        reason = f"{failure.stage}: {failure.kind}: {failure.message}" if failure else ""
        if plan.done and failure and failure.stage == WITNESS.name:  # the picture is good
            row["not_witnessed"] = reason
            failure = None
        if failure:
            row |= {"status": "failed", "reason": reason}
        elif plan.done:
            return row | self._result(plan, old, row["thumbs"])
        if "image" in old and self._is_there(old):
            kept = {name: old[name] for name in ("image", "stamp", "object")}
            after = {"after": old["thumbs"].get("after")}
            row |= kept | {"earlier": True, "thumbs": {**row["thumbs"], **after}}
        return row

    def _result(self, plan: EditPlan, old: ResultRow, thumbs: ResultRow) -> ResultRow:
        """Write the edited image, unless it is there already as it should be."""
        found = plan.stages[RESULT.name].found
        assert found is not None
        path, thumb = f"{IMAGES}/{plan.edit.id}.png", _thumb_name("after", found.object)
        result = _Result(lambda: self.store.read(found.record)[RESULT.result])
        try:
            is_there = old.get("object") == found.object and self._has(path, old.get("stamp"))
            stamp = old["stamp"] if is_there else self._save_result(path, result.full)
            self._save_missing(thumb, lambda: result.small)
        except ArtifactError as error:
            reason = f"the result is damaged, run again: {error}"
            return {"status": "failed", "reason": reason, "object_damaged": True}
        return {
            "status": "done",
            "image": path,
            "stamp": stamp,
            "object": found.object,
            "thumbs": {**thumbs, "after": thumb},
        }

    def _thumbs(self, plan: EditPlan) -> dict[str, str | None]:
        """Draw the image with its drags, and what stages show on the page."""
        edit = plan.edit
        thumbs = {"before": self._before(edit)}
        for stage in STAGES:
            staged = plan.stages[stage.name]
            for tile in stage.tiles:
                if tile.on_page:
                    is_made = staged.status is Status.HIT
                    thumbs[tile.title] = self._tile(plan, stage.name, tile) if is_made else None
        return thumbs

    def _before(self, edit: Edit) -> str | None:
        def draw() -> "Image.Image":
            from stages.images import read_image
            from stages.reports.tiles import drag_tile

            return drag_tile(read_image(edit.image_path, edit.image.pixels), edit.drags, THUMB)

        return self._thumb(_thumb_name("before", edit.image.digest, edit.points), draw)

    def _tile(self, plan: EditPlan, stage: str, tile: Tile) -> str | None:
        found, edit = plan.stages[stage].found, plan.edit
        assert found is not None

        def draw() -> "Image.Image":
            from stages.images import read_image

            part = self.store.read(found.record)[tile.part]
            pixels = read_image(edit.image_path, edit.image.pixels)
            return tile.draw(part, Look(edit, pixels, plan.resolved.frame, THUMB))

        name = _thumb_name(tile.title, edit.image.digest, found.object, edit.points)
        return self._thumb(name, draw)

    def _thumb(self, path: str, draw: "Callable[[], Image.Image]") -> str | None:
        """Return the path of a small picture, or None where it cannot be drawn any more."""
        with suppress(InvalidEdit, ArtifactError):
            self._save_missing(path, draw)
            return path
        return None

    # Files

    @cached_property
    def _images(self) -> dict[str, str]:
        """The stamps of the results that are there, by path."""
        return self.place.stamps(IMAGES)

    @cached_property
    def _small(self) -> set[str]:
        """The paths of the small pictures that are there."""
        return self.place.names(THUMBS)

    def _is_there(self, row: ResultRow) -> bool:
        """Return whether the pictures of a row are there, and its result is as it was written."""
        small = self._small
        if not all(path is None or path in small for path in row.get("thumbs", {}).values()):
            return False
        return "image" not in row or self._has(row["image"], row.get("stamp"))

    def _has(self, path: str, stamp: str | None) -> bool:
        return stamp is not None and self._images.get(path) == stamp

    def _save_missing(self, path: str, draw: "Callable[[], Image.Image]") -> None:
        # Small pictures are named by everything that they show.
        if path not in self._small:
            encoded = io.BytesIO()
            draw().save(encoded, "JPEG", quality=88)
            self.place.put(path, encoded.getvalue())
            self._small.add(path)

    def _save_result(self, path: str, picture: "Image.Image") -> str:
        """Write an edited image; return its stamp."""
        from stages.reports.srgb_png import save_png

        encoded = io.BytesIO()
        save_png(picture, encoded)
        self.place.put(path, encoded.getvalue())
        self._images[path] = stamp = self.place.stamp(path) or ""
        return stamp

    def _sweep(self) -> None:
        """Remove small pictures of ours that no row shows."""
        shown = {path for row in self.rows.values() for path in row["thumbs"].values()}
        ours = {path for path in self._small if _THUMB_FILE.fullmatch(path)}
        self.place.delete(sorted(ours - shown))
        self._small -= ours - shown

    # Table

    def _add_line(self, row: ResultRow) -> None:
        data = json.dumps(row).encode()
        if self.place.root is None:
            self.place.put(f"{ROWS}/{row['id']}.json", data)
            return
        self.place.append(TABLE, data + b"\n")

    def _write_table(self) -> None:
        """Write one line per edit in the order of the job's file; those of other processes stay."""
        with self.place.locked():
            own = {name: self.rows[name] for name in self.own if name in self.rows}
            self.rows = {**self.rows, **self._read_rows(), **own}
            lines = (json.dumps(self.rows[name]) for name in self.job.order if name in self.rows)
            self.place.put(TABLE, "".join(f"{line}\n" for line in lines).encode())
            self.place.delete(self.place.stamps(ROWS))

    def _read_rows(self) -> dict[str, ResultRow]:
        """Return the last row of each edit; a file that is not ours has none."""
        lines = self.place.get(TABLE).splitlines()
        lines += [self.place.get(path) for path in self.place.stamps(ROWS)]
        found: dict[str, ResultRow] = {}
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                row = json.loads(line)
                if row["form"] == _FORM:
                    found[row["id"]] = row
        return {name: found[name] for name in self.job.order if name in found}

    # Page and owner

    def _write_page(self, banner: str) -> None:
        from stages.reports.page import render_page

        rows = [self.rows[name] for name in self.job.order if name in self.rows]
        self.place.put(PAGE, render_page(self.job.name, rows, banner).encode(errors="replace"))

    def _owner(self) -> dict[str, Any]:
        with suppress(ValueError):
            found = json.loads(self.place.get(OWNER))
            return found if isinstance(found, dict) else {}
        return {}

    def _claim(self) -> None:
        owner = Path(str(self._owner().get("path", self.job.path)))
        # A job that was moved or renamed keeps its results.
        if owner != self.job.path and owner.is_file() and not owner.samefile(self.job.path):
            raise InvalidEdit(
                f"{self.place.out} has the results of another job, {owner}, which would be "
                "replaced: "
                "name another --out"
            )
        if owner != self.job.path or not self._owner():
            self._write_owner(finished=False)

    def _write_owner(self, *, finished: bool) -> None:
        document = {"path": str(self.job.path), "name": self.job.name, "finished": finished}
        data = json.dumps(document).encode()
        if self.place.get(OWNER) != data:
            self.place.put(OWNER, data)

    def _is_finished(self) -> bool:
        return bool(self._owner().get("finished")) and self.place.stamp(PAGE) is not None


@dataclass(frozen=True)
class _Result:
    """An image that is read from the store when it is needed, and once."""

    read: Callable[[], Any]

    @cached_property
    def full(self) -> "Image.Image":
        from PIL import Image

        return Image.fromarray(self.read())

    @property
    def small(self) -> "Image.Image":
        picture = self.full.copy()
        picture.thumbnail((THUMB, THUMB))
        return picture


def _refuse_places_of_others(job: Job, store: ArtifactStore, out: str | Path) -> None:
    """Refuse a folder in the store, in another job's results, or with inputs in it.

    Raises:
        InvalidEdit: naming what is in the way.
    """
    if "://" in str(out):
        return
    folder = Path(out).expanduser().resolve()
    root = store.backend.root
    if root is not None and (root.resolve() == folder or root.resolve() in folder.parents):
        raise InvalidEdit(f"--out {out} lies in the store {root}: name another folder")
    for above in folder.parents:
        if (above / OWNER).is_file() and (above / TABLE).is_file():
            raise InvalidEdit(
                f"--out {out} lies in the results of another job, {above}: name another folder"
            )
    images = folder / IMAGES
    results = {f"{images}/{edit.id}.png" for edit in job.edits}
    with suppress(FileNotFoundError, NotADirectoryError):
        links = [Path(entry) for entry in os.scandir(images) if entry.is_symlink()]
        results |= {str(link.resolve()) for link in links if str(link) in results}
    for edit in job.edits:  # whose files were named with all links followed
        for source in (edit.image_path, edit.mask_path):
            if source is not None and str(source) in results:
                raise InvalidEdit(f"results in {out} would replace {source}: name another --out")


def _made_of(plan: EditPlan, failure: Failure | None) -> str:
    """Return a digest of everything that a row says."""
    edit = plan.edit
    stages = [
        (staged.status.value, staged.key or staged.why, staged.found and staged.found.number)
        for staged in plan.stages.values()
    ]
    image = edit.image_path, edit.image.digest, edit.notes
    what = _FORM, _DRAWING, edit.id, edit.prompt, edit.tags, image, edit.drags, stages, failure
    return hashlib.sha256(repr(what).encode(errors="surrogateescape")).hexdigest()[:32]


def _facts(plan: EditPlan) -> ResultRow:
    """Return what is known of an edit, whatever became of it."""
    edit, records, drag = plan.edit, plan.records, plan.drag
    seconds = {name: record.circumstances.seconds for name, record in records.items()}
    warnings = [w for record in records.values() for w in warnings_of(record.summary)]
    return {
        "form": _FORM,
        "prompt": edit.prompt,
        "tags": list(edit.tags),
        "input": str(edit.image_path),
        "width": edit.image.width,
        "height": edit.image.height,
        "notes": list(edit.notes),
        "drags": [[*map(list, drag)] for drag in edit.drags],
        "verdict": plan.witness.get("verdict"),
        "points": plan.witness.get("points", []),
        "not_witnessed": plan.not_witnessed,
        "tracker": {"verdict": drag.get("verdict"), "points": drag.get("points", [])},
        "steps": drag.get("steps"),
        "budget": drag.get("budget"),
        "off": {name: s.why for name, s in plan.stages.items() if s.status is Status.OFF},
        "warnings": warnings,
        "seconds": round(sum(seconds.values()), 3),
        "stage_seconds": seconds,
        "keys": {name: record.key for name, record in records.items()},
    }


def _bad_row(bad: BadEdit) -> ResultRow:
    return {
        "form": _FORM,
        "id": bad.id,
        "status": "bad",
        "line": bad.line,
        "field": bad.field,
        "reason": bad.reason,
        "tags": list(bad.tags),
        "thumbs": {},
    }


def _thumb_name(kind: str, *what: object) -> str:
    return f"{THUMBS}/{digest_json('thumbnail', [kind, _DRAWING, *what])[:32]}.jpg"


def _stamp(entry: Entry) -> str:
    """Return what changes when a file is written by somebody else."""
    return f"{entry.size} {entry.modified.isoformat()} {entry.e_tag or ''}".strip()
