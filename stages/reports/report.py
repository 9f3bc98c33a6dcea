"""What a run leaves for the user: edited images, a table of results, and a page to look at.

    OUT/images/<id>.png    the edited images
    OUT/results.jsonl      one line per edit: verdict, paths, keys, seconds, or the reason
    OUT/index.html         before, mask and after of every edit; small pictures in OUT/thumbs

Files appear whole or not at all, and pictures that are up to date are not written again.
"""

import hashlib
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from artifacts import ArtifactError, ArtifactStore, Record, digest_file, digest_json
from stages.jobs.edit import BadEdit, Edit, Job
from stages.planning.plan import EditPlan, Status, plan_edits

if TYPE_CHECKING:
    from PIL import Image

Row: TypeAlias = dict[str, Any]

RESULTS, PAGE, IMAGES, THUMBS = "results.jsonl", "index.html", "images", "thumbs"
_THUMB_FILE = re.compile(r"[0-9a-f]{32}\.jpg")
THUMB = 256
_FORM = 1
"""Raise when rows change, so that old ones are not taken over."""
_END = len(f"<!-- {0:032} -->\n")
_DRAWING = 1
"""Raise when thumbnails are drawn differently, so that old ones are not taken for new."""


class ReportUnwritable(AdaptiveDragError, OSError):
    """The folder of the results cannot be written; the message names it."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Name the place where results could not be written.

    Raises:
        ReportUnwritable: for any error of the file system.
    """
    try:
        yield
    except (AdaptiveDragError, ArtifactError):
        raise
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise ReportUnwritable(f"{place} is in the way: name another with --out") from error
    except OSError as error:
        raise ReportUnwritable(
            f"{place} cannot be written ({error.strerror}): name another with --out"
        ) from error


class Failed(Protocol):
    """An edit that failed; its text is one line with the reason."""

    @property
    def id(self) -> str: ...

    @property
    def stage(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def message(self) -> str: ...


class Run(Protocol):
    """What the report needs to know of a run."""

    @property
    def failed(self) -> Sequence[Failed]: ...


def check_out(job: Job, out: Path) -> None:
    """Refuse a folder in which a result would take the place of an input.

    Raises:
        InvalidEdit: naming the input.
    """
    folder = (out / IMAGES).resolve()
    results = {f"{folder}/{edit.id}.png" for edit in job.edits}
    with suppress(FileNotFoundError, NotADirectoryError):
        links = [Path(entry) for entry in os.scandir(folder) if entry.is_symlink()]
        results |= {str(link.resolve()) for link in links if str(link) in results}
    for edit in job.edits:  # whose files were named with all links followed
        for source in (edit.image_path, edit.mask_path):
            if source is not None and str(source) in results:
                raise InvalidEdit(f"results in {out} would replace {source}: name another --out")


class Written(NamedTuple):
    """A report on disk, and the edits whose finished image turned out to be damaged."""

    page: Path
    damaged: dict[str, str]
    """Reason by edit id."""


def write_report(
    job: Job,
    store: ArtifactStore,
    run: Run,
    out: Path,
    *,
    plans: Sequence[EditPlan] | None = None,
) -> Written:
    """Write images, table and page of a job to `out`; what is there already is left as it is.

    Edits of the job's file that were not selected for this run keep the rows they had.

    Args:
        plans: of all edits of the job, if they are known already.

    Raises:
        ReportUnwritable: if `out` cannot be written.
        StoreUnavailable: if the store cannot be read.
    """
    shown = _shown(job, plan_edits(job.edits, store) if plans is None else plans, run)
    made_of = _digest(_form(), job.name, job.order, job.bad, [each.made_of for each in shown])
    try:
        for folder in (IMAGES, THUMBS):
            (out / folder).mkdir(parents=True, exist_ok=True)
        if _end_of_page(out) == _end(out, made_of):
            return Written(out / PAGE, {})
        previous = _previous_rows(out)
        rows = _Report(job, store, out, previous).rows(shown)
        _write(out / RESULTS, "".join(json.dumps(row) + "\n" for row in rows).encode())
        _sweep(out, rows, previous)
        damage = any("object_damaged" in row for row in rows)
        end = b"" if damage else _end(out, made_of)
        _write(out / PAGE, _page(job.name, rows).encode(errors="replace") + end)
    except OSError as error:
        if isinstance(error, AdaptiveDragError | ArtifactError):
            raise
        raise ReportUnwritable(
            f"results cannot be written to {out} ({error.strerror}): "
            "free the disk, or name another folder with --out"
        ) from error
    failed = {failure.id for failure in run.failed}
    damaged = {
        row["id"]: row["reason"]
        for row in rows
        if row["status"] == "failed" and row.get("object_damaged") and row["id"] not in failed
    }
    return Written(out / PAGE, damaged)


class _Shown(NamedTuple):
    """An edit, what became of it, and the digest of all that its row says."""

    plan: EditPlan
    failure: Failed | None
    made_of: str


def _shown(job: Job, plans: Sequence[EditPlan], run: Run) -> list[_Shown]:
    failures = {failure.id: failure for failure in run.failed}
    return [
        _Shown(plan, failure, _row_digest(plan, failure))
        for plan in plans
        for failure in (failures.get(plan.edit.id),)
    ]


def _row_digest(plan: EditPlan, failure: Failed | None) -> str:
    edit = plan.edit
    reason = failure and (failure.stage, failure.kind, failure.message)
    stages = [
        (staged.status.value, staged.key, staged.found and staged.found.number)
        for staged in plan.stages.values()
    ]
    image = (str(edit.image_path), edit.image.digest, edit.notes)
    return _digest(edit.id, edit.prompt, edit.tags, image, edit.drags, stages, reason)


def _digest(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


def _form() -> tuple[object, ...]:
    template = Path(__file__).parent / "templates" / PAGE
    return _FORM, _DRAWING, digest_file(template)


def _end(out: Path, made_of: str) -> bytes:
    """Return how the page ends if all that it shows is made of this, and lies where it should."""
    names = [sorted(os.listdir(out / folder)) for folder in (IMAGES, THUMBS)]
    with suppress(FileNotFoundError):
        table = digest_file(out / RESULTS)
        return f"<!-- {_digest(made_of, names, table)} -->\n".encode()
    return b""


def _end_of_page(out: Path) -> bytes | None:
    """Return as many bytes as an end has."""
    with suppress(OSError), (out / PAGE).open("rb") as page:
        page.seek(-_END, os.SEEK_END)
        return page.read()
    return None


@dataclass(frozen=True)
class _Report:
    job: Job
    store: ArtifactStore
    out: Path
    previous: Mapping[str, Row]

    def rows(self, shown: Sequence[_Shown]) -> list[Row]:
        """Return a row for every edit in the order of the job's file, writing its pictures."""
        found = {bad.id: _bad_row(bad) for bad in self.job.bad}
        for each in shown:
            name = each.plan.edit.id
            found[name] = self._old_row(name, each.made_of) or self._new_row(each)
        kept = {name: self.previous[name] for name in self.job.order if name in self.previous}
        found = {**kept, **found}
        return [found[name] for name in self.job.order if name in found]

    def _old_row(self, name: str, made_of: str) -> Row | None:
        """Return the row that an edit had, if it still says what it should and is all there."""
        row = self.previous.get(name, {})
        if row.get("made_of") != made_of:
            return None
        pictures = [*row["thumbs"].values(), *([row["image"]] if "image" in row else [])]
        return row if all(path and (self.out / path).is_file() for path in pictures) else None

    def _new_row(self, each: _Shown) -> Row:
        row = self._row(each.plan, each.failure)
        return row if "object_damaged" in row else {**row, "made_of": each.made_of}

    def _row(self, plan: EditPlan, failure: Failed | None) -> Row:
        edit = plan.edit
        row = {**_facts(plan), "id": edit.id, "status": "unfinished"}
        row["thumbs"] = {"before": self._before(edit), "mask": self._mask(plan)}
        if failure:
            reason = f"{failure.stage}: {failure.kind}: {failure.message}"
            return row | {"status": "failed", "reason": reason}
        if plan.done:
            row |= self._result(plan, row["thumbs"])
        return row

    def _result(self, plan: EditPlan, thumbs: Row) -> Row:
        """Write the edited image unless it is there already."""
        name = plan.edit.id
        record = _record(plan, "sample_image")
        path, thumb = f"{IMAGES}/{name}.png", _thumb_name("after", record.object)
        old = self.previous.get(name, {})
        up_to_date = old.get("object") == record.object and old.get("image") == path
        try:
            source = _Pixels(lambda: self.store.read(record)["image"])
            if not (up_to_date and (self.out / path).is_file()):
                self._save(path, source.full)
            self._save_missing(thumb, lambda: source.small)
        except ArtifactError as error:
            reason = f"the result is damaged, run again: {error}"
            return {"status": "failed", "reason": reason, "object_damaged": True}
        return {
            "status": "done",
            "image": path,
            "object": record.object,
            "thumbs": {**thumbs, "after": thumb},
        }

    def _before(self, edit: Edit) -> str | None:
        def draw() -> "Image.Image":
            from stages.jobs.images import read_image
            from stages.reports.panel import drag_tile

            return drag_tile(read_image(edit.image_path), edit.drags, THUMB)

        return self._thumb(_thumb_name("before", edit.image.digest, _points(edit)), draw)

    def _mask(self, plan: EditPlan) -> str | None:
        staged, edit = plan.stages["build_mask"], plan.edit
        if staged.status is not Status.HIT or staged.found is None:
            return None
        record = staged.found.record

        def draw() -> "Image.Image":
            from stages.jobs.images import read_image
            from stages.reports.panel import mask_tile

            mask = self.store.read(record)["picture"]
            return mask_tile(read_image(edit.image_path), mask > 0, edit.drags, THUMB)

        name = _thumb_name("mask", edit.image.digest, record.object, _points(edit))
        return self._thumb(name, draw)

    def _thumb(self, path: str, draw: Callable[[], "Image.Image"]) -> str | None:
        """Return the path of a small picture, or nothing where it cannot be drawn any more."""
        with suppress(InvalidEdit, ArtifactError):
            self._save_missing(path, draw)
            return path
        return None

    def _save_missing(self, path: str, draw: Callable[[], "Image.Image"]) -> None:
        # Small pictures are named by all that they show.
        if not (self.out / path).is_file():
            self._save(path, draw())

    def _save(self, path: str, picture: "Image.Image") -> None:
        import io

        encoded = io.BytesIO()
        options = {"quality": 88} if path.endswith(".jpg") else {}
        picture.save(encoded, "JPEG" if options else "PNG", **options)
        _write(self.out / path, encoded.getvalue())


@dataclass(frozen=True)
class _Pixels:
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


def _facts(plan: EditPlan) -> Row:
    """Return what is known of an edit, whatever became of it."""
    edit = plan.edit
    records = plan.records
    seconds = {name: record.circumstances.seconds for name, record in records.items()}
    drag = records["optimize_latent"].summary if "optimize_latent" in records else {}
    warnings = [w for record in records.values() for w in _texts(record.summary.get("warnings"))]
    return {
        "form": _FORM,
        "prompt": edit.prompt,
        "tags": edit.tags,
        "input": str(edit.image_path),
        "width": edit.image.width,
        "height": edit.image.height,
        "notes": edit.notes,
        "drags": [[*map(list, drag)] for drag in edit.drags],
        "verdict": drag.get("verdict"),
        "points": drag.get("points", []),
        "steps": drag.get("steps"),
        "budget": drag.get("budget"),
        "warnings": warnings,
        "seconds": round(sum(seconds.values()), 3),
        "stage_seconds": seconds,
        "keys": {name: record.key for name, record in records.items()},
    }


def _texts(value: Any) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []


def _bad_row(bad: BadEdit) -> Row:
    return {
        "form": _FORM,
        "id": bad.id,
        "status": "bad",
        "line": bad.line,
        "field": bad.field,
        "reason": bad.reason,
        "tags": bad.tags,
        "thumbs": {},
    }


def _record(plan: EditPlan, stage: str) -> Record:
    record = plan.stages[stage].record
    assert record is not None
    return record


def _points(edit: Edit) -> list[list[float]]:
    return [[*map(float, (*drag.handle, *drag.target))] for drag in edit.drags]


def _thumb_name(kind: str, *what: object) -> str:
    return f"{THUMBS}/{digest_json('thumbnail', [kind, _DRAWING, *what])[:32]}.jpg"


def _previous_rows(out: Path) -> dict[str, Row]:
    """Return the rows of an earlier report; a file that is not ours has none."""
    try:
        rows = [json.loads(line) for line in (out / RESULTS).read_text("utf-8").splitlines()]
        return {row["id"]: row for row in rows if row["form"] == _FORM}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _write(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old one or the whole new one."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        new.write_bytes(data)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _sweep(out: Path, rows: Sequence[Row], previous: Mapping[str, Row]) -> None:
    """Remove small pictures that no row shows, and results that were taken back."""
    shown = {path for row in rows for path in row["thumbs"].values()}
    for path in (out / THUMBS).glob("*.jpg"):
        if _THUMB_FILE.fullmatch(path.name) and f"{THUMBS}/{path.name}" not in shown:
            path.unlink(missing_ok=True)
    for row in rows:
        if "image" not in row and "image" in previous.get(row["id"], {}):
            (out / IMAGES / f"{row['id']}.png").unlink(missing_ok=True)


def _page(name: str, rows: Sequence[Row]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stages.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(PAGE).render(
        name=name,
        rows=rows,
        failures=[row for row in rows if row["status"] in ("failed", "bad")],
        counts=Counter(row["status"] for row in rows),
        verdicts=Counter(row["verdict"] for row in rows if row.get("verdict")),
        seconds=sum(row.get("seconds", 0) for row in rows),
    )
