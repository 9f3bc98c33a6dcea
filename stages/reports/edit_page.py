"""A page for each edit: OUT/edits/<id>.html, and its pictures in OUT/edits/<id>.

Everything that the stages made and said of one edit, how it failed, and how to do it again.
"""

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from adaptivedrag.errors import InvalidEdit
from artifacts import ArtifactCorrupt
from stages.browsing import MadeEdit
from stages.images import Pixels
from stages.planning.plan import EditPlan, plan_edits
from stages.reports.edit_view import (
    StageView,
    Surroundings,
    drag_views,
    general_settings,
    paths,
    stage_views,
    tracker_view,
)
from stages.reports.page import EDITS, address_of
from stages.reports.rendering import ASSETS, asset, render
from stages.reports.rows import ResultRow, ends_of

if TYPE_CHECKING:
    from PIL import Image

    from stages.reports.results import Results

DRAWN = 320
"""Longest side of a drawing of what a stage made, in pixels."""
FEW = 20
"""The most edits of a job that gets the pages of all by itself: 0.15 s each on one core."""
_FORM = 1
"""Raise when pages change, so that old ones are written again."""
_OWN_ASSETS = ("edit.css", "edit.js")
_MADE_OF = re.compile(rb'<meta name="made-of" content="(\w+)">')


def write_edit_pages(
    results: "Results",
    plans: Iterable[EditPlan],
    *,
    renew: bool = True,
    on_page: Callable[[int, int], None] = lambda _done, _pages: None,
) -> list[str]:
    """Write the pages of edits whose results are written; return the ids of those written.

    Args:
        renew: write those too that say already what they should.
        on_page: called after each page with how many are done and how many there are.

    Raises:
        ReportUnwritable: if the place cannot be written.
        StoreUnavailable: if the store cannot be read.
    """
    pages, written = _Pages(results, [*plans]), []
    for number, plan in enumerate(pages.plans, start=1):
        if pages.write(plan, renew=renew):
            written.append(plan.edit.id)
        on_page(number, len(pages.plans))
    results.link_pages(plan.edit.id for plan in pages.plans)
    return written


class _Pages:
    """The pages of some edits of a job."""

    def __init__(self, results: "Results", plans: Sequence[EditPlan]) -> None:
        self.results, self.plans = results, plans
        self.around = Surroundings.of(results.job, results.store, results.place.out)
        there = results.place.names(EDITS) | {address_of(plan.edit.id) for plan in plans}
        self.order = [name for name in results.job.order if address_of(name) in there]
        for name in _OWN_ASSETS:
            if results.place.get(f"{ASSETS}/{name}") != asset(name):
                results.place.put(f"{ASSETS}/{name}", asset(name))

    def write(self, plan: EditPlan, *, renew: bool) -> bool:
        """Write the page of an edit, unless it says already what it should."""
        if plan.to_make:  # the plan of a run does not know what has failed since
            (plan,) = plan_edits([plan.edit], self.results.store)
        name = plan.edit.id
        neighbors = self._neighbors(name)
        made_of = self._made_of(plan, neighbors)
        path = address_of(name)
        if not renew and made_of == self._made_of_page(path):
            return False
        try:
            page = self._page(plan, neighbors, made_of)
        except ArtifactCorrupt:  # a record that is cut off: the store has forgotten it by now
            (plan,) = plan_edits([plan.edit], self.results.store)
            page = self._page(plan, neighbors, made_of)
        self.results.place.put(path, page.encode(errors="replace"))
        return True

    def _page(self, plan: EditPlan, neighbors: Mapping[str, str], made_of: str) -> str:
        edit, around, row = plan.edit, self.around, self.results.rows[plan.edit.id]
        made = MadeEdit(plan, self.results.store, around.commands(edit.id).make)
        views = stage_views(plan, made, around)
        tracker = tracker_view(views)
        pixels, unreadable = _pixels(made)
        drawn = {} if pixels is None else self._draw(made, views, min(DRAWN, max(pixels.shape)))
        return render(
            "edit.html",
            title=edit.id,
            assets=f"../{ASSETS}",
            edit=edit,
            row=row,
            view=_view(row, edit.points),
            verdict=plan.verdict,
            failure=plan.last_failure,
            neighbors=neighbors,
            made_of=made_of,
            job=around.job.name,
            variants=around.job.variants,
            unreadable=unreadable,
            drags=drag_views(plan),
            paths=paths(plan, tracker.parts),
            no_paths=tracker.hole,
            stages=views,
            drawn=drawn,
            settings=general_settings(edit),
            make=around.commands(edit.id).make + " --retry-failed" * bool(plan.failed),
        )

    def _draw(
        self, made: MadeEdit, views: Sequence[StageView], longest: int
    ) -> dict[str, dict[str, str]]:
        """Draw what each stage made; return the pictures by stage and title."""
        return {
            view.name: {
                title: self._put(made.edit.id, title, picture)
                for title, picture in made.drawings(view.name, longest).items()
            }
            for view in views
            if view.parts
        }

    def _put(self, name: str, title: str, picture: "Image.Image") -> str:
        """Save a picture; return its address on the page."""
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=88)
        address = f"{name}/{title}.jpg"
        self.results.place.put(f"{EDITS}/{address}", encoded.getvalue())
        return address

    def _neighbors(self, name: str) -> dict[str, str]:
        """Return the edits before and after one that have a page; "" at the ends."""
        here = self.order.index(name)
        around = ["", *self.order, ""]
        return {"previous": around[here], "next": around[here + 2]}

    def _made_of(self, plan: EditPlan, neighbors: Mapping[str, str]) -> str:
        """Return a digest of what a page says."""
        stages = [
            (staged.status, staged.key, staged.failure, staged.found and staged.found.number)
            for staged in plan.stages.values()
        ]
        edit, around, row = plan.edit, self.around, self.results.rows[plan.edit.id]
        what: list[Any] = [_FORM, edit, row, stages, neighbors, around.job.path, around.out]
        return sha256(repr(what).encode(errors="surrogateescape")).hexdigest()[:32]

    def _made_of_page(self, path: str) -> str:
        found = _MADE_OF.search(self.results.place.get(path))
        return found[1].decode() if found else ""


def _pixels(made: MadeEdit) -> tuple[Pixels | None, str]:
    """Return the image of an edit, or why it cannot be read any more."""
    try:
        return made.original, ""
    except InvalidEdit as error:
        return None, str(error)


def _view(row: ResultRow, points: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return what the viewer shows of an edit, with addresses as its page sees them."""

    def layer(title: str, path: str | None, hole: str = "not made", **more: str) -> dict[str, Any]:
        return {"title": title, "src": path and f"../{path}", "hole": hole, **more}

    source, image = row["source"], row.get("image")
    over = {title: path for title, path in row["overlays"].items() if path}
    layers = [
        layer("before", source, "the image cannot be read"),
        *(
            layer(title, source, over=f"../{over[title]}") if title in over else layer(title, None)
            for title in row["overlays"]
        ),
        layer("after", image, str(row.get("reason", "not made"))),
        layer("difference", image and source, over=f"../{image}", blend="difference"),
        layer("truth", row["truth"], "not known"),
    ]
    return {
        "name": row["id"],
        "width": row["width"],
        "height": row["height"],
        "layers": layers,
        "left": 0,
        "right": len(layers) - 3,
        "drags": points,
        "ends": ends_of(row),
    }
