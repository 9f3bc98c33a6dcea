"""The page of a job's results, from the rows of its table alone."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from stages.pipeline import STAGES
from stages.reports.wording import ended

if TYPE_CHECKING:
    from jinja2 import Template

    from stages.reports.results import ResultRow

REFRESH_SECONDS = 30


def render_page(name: str, rows: "Sequence[ResultRow]", banner: str = "") -> str:
    """Return the page as HTML.

    Args:
        banner: says that a run goes on; the page then loads itself again now and then.
    """
    titles = [tile.title for stage in STAGES for tile in stage.tiles if tile.on_page]
    return _template().render(
        name=name,
        rows=rows,
        banner=banner,
        refresh=REFRESH_SECONDS,
        figures=["before", *titles, "after"],
        failures=[row for row in rows if row["status"] in ("failed", "bad")],
        counts=Counter(row["status"] for row in rows),
        verdict=_verdict,
        ended=ended,
        verdicts=Counter(said for row in rows if (said := _verdict(row))),
        seconds=sum(row.get("seconds", 0) for row in rows),
    )


def _verdict(row: "ResultRow") -> str:
    return "not witnessed" if row.get("not_witnessed") else row.get("verdict") or ""


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stages.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html")
