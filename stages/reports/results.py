"""What a run leaves for the user, as soon as each edit is done, whichever process does it.

    OUT/index.html         the page: a summary, and all edits; see `page`
    OUT/data, OUT/assets   what the page loads
    OUT/results.jsonl      lines about edits: the witness's verdict and the tracker's, measures,
                           keys, seconds, or the reason; the last line of an edit counts
    OUT/images/<id>.png    the edited images; `pictures` says what lies beside them
    OUT/job.json           whose results these are

OUT is a folder, or a URL of object storage, where a line is an object of its own until the table is
next written: OUT/rows/<id>.json. Files appear whole or not at all. A finished picture is never
taken away: where its settings have changed since, it stays until its successor is there.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adaptivedrag.errors import InvalidEdit
from artifacts import ArtifactError, ArtifactStore
from stages.failures import Failure
from stages.garbage import collector_paused
from stages.jobs.edit import Job
from stages.pipeline import RESULT
from stages.planning.plan import EditPlan
from stages.reports.page import PAGE, Page, look
from stages.reports.pictures import IMAGES, Pictures
from stages.reports.place import Place
from stages.reports.rows import FORM, ResultRow, bad_row, damaged_row, keys_of, made_of, row_of
from stages.reports.verdicts import score, with_outliers

TABLE, OWNER, ROWS = "results.jsonl", "job.json", "rows"


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
    found: frozenset[str] = frozenset()
    """Keys of the artifacts that were there before the run began."""
    gone: tuple[str, ...] = ()
    """Ids of the edits that had rows and are no longer the job's."""
    banner: str = ""
    """What the page says of a run that goes on."""

    @classmethod
    @collector_paused()
    def open(cls, job: Job, store: ArtifactStore, out: str | Path) -> "Results":
        """Claim a place for a job, and read what is there.

        Raises:
            InvalidEdit: if it is another job's, lies in the store, or a result would take the place
                of an input.
            ReportUnwritable: if it cannot be written.
        """
        refuse_places_of_others(job, store, out)
        results = cls(job, store, Place(out))
        results._claim()
        found = results._all_rows()
        results.rows = results._of_job(found)
        results.gone = tuple(name for name in found if name not in results.rows)
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
        (row,) = with_outliers([self._row(plan, failure, draws=True)])
        self.rows[plan.edit.id] = row
        self.own.add(plan.edit.id)
        self._add_line(row)
        return row

    def begin(self, plans: Iterable[EditPlan]) -> None:
        """Note every edit of a run, so that the page shows what is still to come.

        Nothing is drawn for what is not done: that would keep thousands of edits waiting.
        """
        self._update(plans, {}, draws=False)
        self.found = frozenset(key for row in self.rows.values() for key in keys_of(row))
        self._write_table()

    @collector_paused()
    def finish(
        self,
        plans: Collection[EditPlan],
        failures: Iterable[Failure] = (),
        *,
        banner: str = "",
        scored: bool = False,
    ) -> dict[str, str]:
        """Write everything that is not up to date: pictures, table and page.

        Edits of the job's file that are not among the plans keep the rows they had.

        Args:
            banner: says what other processes may still be at.
            scored: whether to read what `eval` has measured of the results, all of the store's.

        Returns:
            By id the edits whose finished image turned out to be damaged, with the reason.

        Raises:
            ReportUnwritable: if the place cannot be written.
            StoreUnavailable: if the store cannot be read.
        """
        failed = {failure.id: failure for failure in failures}
        is_new = self._update(plans, failed, draws=True)
        if scored:
            is_new |= self._score(plans)
        if is_new or not self._is_finished():
            self._write_table()
            if not banner:  # other processes may have drawn what they have no line of yet
                self._pictures.sweep(self.rows.values())
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
        self._take(self._read_rows())
        self._write_page(banner)

    def link_pages(self, written: Iterable[str] = ()) -> None:
        """Write the page again, if there are other pages that it should have a link to.

        Args:
            written: ids of the edits whose pages say now what their rows do.

        Raises:
            ReportUnwritable: if the place cannot be written.
        """
        owner = self._owner()
        new = [name for name in written if not self.rows[name].get("has_page")]
        if new:
            self.rows |= {name: {**self.rows[name], "has_page": True} for name in new}
            self.own |= {*new}
            self._write_table()
        if new or owner.get("look") != look(self.place):
            self._write_page(self.banner)
            self._write_owner(finished=bool(owner.get("finished")))

    def latest(self) -> dict[str, ResultRow]:
        """Read the row of each edit, also those that other processes have written."""
        return self._read_rows()

    # Rows

    def _update(
        self, plans: Iterable[EditPlan], failures: Mapping[str, Failure], *, draws: bool
    ) -> bool:
        """Bring rows up to date; return whether any changed."""
        before = self.rows
        found = {bad.id: bad_row(bad) for bad in self.job.bad}
        for plan in plans:
            name = plan.edit.id
            found[name] = self._row(plan, failures.get(name), draws=draws)
        self.own |= found.keys()
        self._take({**before, **found})
        return self.rows != before

    def _score(self, plans: Iterable[EditPlan]) -> bool:
        """Take what was measured of results into their rows; return whether any changed."""
        from stages.evaluate import Judged

        before = self.rows
        found = {plan.edit.id: plan.stages[RESULT.name].found for plan in plans if plan.done}
        results = {name: result.logical for name, result in found.items() if result}
        judged = Judged.of_results(self.store, {*results.values()})
        edits = {edit.id: edit for edit in self.job.edits}
        scores = {name: score(judged.of(edits[name], each)) for name, each in results.items()}
        self.rows = {name: {**row, **scores.get(name, {})} for name, row in before.items()}
        return self.rows != before

    def _take(self, rows: Mapping[str, ResultRow]) -> None:
        """Take rows in the order of the job's file, and see what is unusual about each."""
        ordered = (rows[name] for name in self.job.order if name in rows)
        self.rows = {row["id"]: row for row in with_outliers(ordered)}

    def _row(self, plan: EditPlan, failure: Failure | None, *, draws: bool) -> ResultRow:
        """Return the row of an edit; the one that there was, if it still says what it should."""
        digest = made_of(plan, failure)
        old = self.rows.get(plan.edit.id, {})
        if old.get("made_of") == digest and self._pictures.are_there(old):
            return old
        row = self._new_row(plan, failure, old, draws=draws)
        complete = "object_damaged" not in row and (draws or row["status"] == "done")
        return {**row, "made_of": digest} if complete else row

    def _new_row(
        self, plan: EditPlan, failure: Failure | None, old: ResultRow, *, draws: bool
    ) -> ResultRow:
        row = row_of(plan, failure)
        if draws or plan.done:
            row |= self._pictures.of_edit(plan)
        if row["status"] == "done":
            try:
                return row | self._pictures.of_result(plan, old, row["thumbs"])
            except ArtifactError as error:
                return damaged_row(row, RESULT.name, error)
        if "image" in old and self._pictures.are_there(old):
            kept = {name: old[name] for name in ("image", "stamp", "object")}
            after = {"after": old["thumbs"].get("after")}
            row |= kept | {"earlier": True, "thumbs": {**row["thumbs"], **after}}
        return row

    @cached_property
    def _pictures(self) -> Pictures:
        return Pictures(self.place, self.store)

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
            self._take({**self.rows, **self._read_rows(), **own})
            lines = (json.dumps(row) for row in self.rows.values())
            self.place.put(TABLE, "".join(f"{line}\n" for line in lines).encode())
            self.place.delete(self.place.stamps(ROWS))

    def _read_rows(self) -> dict[str, ResultRow]:
        """Return the last row of each edit of the job."""
        return self._of_job(self._all_rows())

    def _of_job(self, found: Mapping[str, ResultRow]) -> dict[str, ResultRow]:
        return {name: found[name] for name in self.job.order if name in found}

    def _all_rows(self) -> dict[str, ResultRow]:
        """Return the last row of each edit that has one; a file that is not ours has none."""
        lines = self.place.get(TABLE).splitlines()
        lines += [self.place.get(path) for path in self.place.stamps(ROWS)]
        found: dict[str, ResultRow] = {}
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                row = json.loads(line)
                if row["form"] == FORM:
                    found[row["id"]] = row
        return found

    # Page and owner

    def _write_page(self, banner: str) -> None:
        self.banner = banner
        Page(self.job, [*self.rows.values()], banner, self.found).write(self.place)

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
        document |= {"look": look(self.place)}
        data = json.dumps(document).encode()
        if self.place.get(OWNER) != data:
            self.place.put(OWNER, data)

    def _is_finished(self) -> bool:
        owner = self._owner()
        is_page = owner.get("look") == look(self.place) and self.place.stamp(PAGE) is not None
        return bool(owner.get("finished")) and is_page


def refuse_places_of_others(job: Job, store: ArtifactStore, out: str | Path) -> None:
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
