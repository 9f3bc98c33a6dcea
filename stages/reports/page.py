"""The page of a job's results, from the rows of its table alone.

    OUT/index.html     the summary and the failures, which need no script
    OUT/data/0001.js   rows; see `rendering.script_files`
    OUT/assets         style sheets and scripts

What is there already as it should be is not written again.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import resources
from typing import Any

from stages.failures import Failure
from stages.jobs.edit import Job
from stages.pipeline import STAGE_NAMES
from stages.reports.causes import causes
from stages.reports.place import Place
from stages.reports.rendering import ASSETS, addresses, asset, mark, render, script_files
from stages.reports.rows import ResultRow, ends_of
from stages.reports.verdicts import ADVICE
from stages.reports.wording import count, duration

PAGE, DATA, EDITS, COMPARED = "index.html", "data", "edits", "compare.html"
MOST_NAMED = 100
"""Of the failures of one cause; all are in the grid."""
REFRESH_SECONDS = 30
SHORT = 12
"""Digits of a digest that tell results apart."""
SCRIPTS = ("viewer.js", "votes.js", "listing.js", "index.js")
STYLES = ("page.css", "viewer.css", "listing.css", "index.css")
_AS_THEY_ARE = (
    *("id", "status", "advice", "sentence", "tags", "prompt", "reason", "distance", "relative"),
    *("outside", "mask_share", "outliers", "seconds", "score", "scored_by", "steps", "budget"),
    *("width", "height", "image", "source", "overlays", "truth", "thumbs", "notes", "warnings"),
    *("off", "earlier", "not_witnessed", "line"),
)
"""What the page gets of a row, beside what `_datum` makes of the rest."""


@dataclass(frozen=True)
class Page:
    """The page of a job.

    Attributes:
        banner: says that a run goes on; the page then loads itself again now and then.
        found: keys of the artifacts that were there before the run.
    """

    job: Job
    rows: Sequence[ResultRow]
    banner: str = ""
    found: Set[str] = frozenset()

    def write(self, place: Place) -> None:
        """Write the page; the index last, since it names the other files.

        Raises:
            ReportUnwritable: if the place cannot be written.
        """
        files = script_files(DATA, self._data(place.names(EDITS)))
        assets = {f"{ASSETS}/{name}": asset(name) for name in (*SCRIPTS, *STYLES)}
        for path, data in {**assets, **files}.items():
            place.put_changed(path, data)
        place.delete(sorted(place.names(DATA) - files.keys()))
        is_compared = place.stamp(COMPARED) is not None
        place.put(PAGE, self._index(files, is_compared).encode(errors="replace"))

    def _data(self, pages: Set[str]) -> Iterator[dict[str, Any]]:
        """Yield what the page gets of each edit.

        Args:
            pages: of single edits.
        """
        for row in self.rows:
            own = address_of(row["id"])
            is_told = own in pages and row.get("has_page")
            yield {**_datum(row), "page": own} if is_told else _datum(row)

    def _index(self, files: Mapping[str, bytes], is_compared: bool) -> str:
        return render(
            "index.html",
            title=self.job.name,
            compared=COMPARED if is_compared else None,
            banner=self.banner,
            refresh=REFRESH_SECONDS,
            scripts=SCRIPTS,
            styles=[name for name in STYLES if name != "page.css"],
            count=count,
            total=len(self.rows),
            advice=[*self._advice()],
            verdicts=Counter(said for row in self.rows if (said := _verdict(row))).most_common(),
            work=[*self._work()],
            causes=causes(map(_failure, self._of_status("failed"))),
            bad=[*self._of_status("bad")],
            most=MOST_NAMED,
            settings={
                "job": hashlib.sha256(str(self.job.path).encode()).hexdigest()[:16],
                "name": self.job.name,
                "files": addresses(files),
                "total": len(self.rows),
                "stages": STAGE_NAMES,
                "refresh": REFRESH_SECONDS if self.banner else 0,
            },
        )

    def _of_status(self, status: str) -> Iterator[ResultRow]:
        return (row for row in self.rows if row["status"] == status)

    def _advice(self) -> Iterator[tuple[str, str, int]]:
        counts = Counter(row["advice"] for row in self.rows)
        yield from ((name, words, counts[name]) for name, words in ADVICE.items() if counts[name])

    def _work(self) -> Iterator[str]:
        """Say what the results have cost, and what was saved."""
        spent = {
            row["keys"][name]: (seconds, row["devices"][name])
            for row in self.rows
            for name, seconds in row.get("stage_seconds", {}).items()
        }
        if not spent:
            return
        asked = sum(row.get("seconds", 0.0) for row in self.rows)
        for kind, is_cpu in (("GPU", False), ("CPU", True)):
            own = [seconds for seconds, on in spent.values() if (on == "cpu") == is_cpu]
            if any(own):
                yield f"{duration(sum(own))} of {kind} time for {count(len(own), 'artifact')}"
        if (shared := asked - sum(seconds for seconds, _ in spent.values())) > 1:
            yield f"{duration(shared)} saved, since edits share artifacts"
        if before := sum(seconds for key, (seconds, _) in spent.items() if key in self.found):
            yield f"{duration(before)} of it was in the store before this run"


def look(place: Place) -> str:
    """Return what changes when pages are made differently, or there are others to link to."""
    template = (resources.files("stages.reports") / "templates" / PAGE).read_bytes()
    made_of = [
        template,
        *map(asset, (*SCRIPTS, *STYLES)),
        *sorted(map(str.encode, place.names(EDITS))),
        *([] if place.stamp(COMPARED) is None else [COMPARED.encode()]),
    ]
    return mark(b"\0".join(made_of))


def address_of(name: str) -> str:
    """Return the path of the page of an edit."""
    return f"{EDITS}/{name}.html"


def _datum(row: ResultRow) -> dict[str, Any]:
    """Return what the page gets of an edit; what is empty is left out."""
    failure = row.get("failure", {})
    found = {
        **{name: row.get(name) for name in _AS_THEY_ARE},
        "verdict": _verdict(row),
        "result": row.get("object", "")[:SHORT],
        "tracker": row.get("tracker", {}).get("verdict"),
        "stage": failure.get("stage"),
        "kind": failure.get("kind"),
        "made": [STAGE_NAMES.index(name) for name in row.get("keys", ())],
        "drags": [[*handle, *target] for handle, target in row.get("drags", ())],
        "ends": ends_of(row),
    }
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def _failure(row: ResultRow) -> Failure:
    return Failure(row["id"], **row["failure"])


def _verdict(row: ResultRow) -> str:
    if row["status"] != "done":
        return ""
    return "not witnessed" if row.get("not_witnessed") else row["verdict"]
