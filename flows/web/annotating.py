"""The page on which the points of edits are placed, and what it asks of its server."""

import base64
import io
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from artifacts import ArtifactError, Digest
from flows.outcomes import InvalidRequest
from flows.preflight import NotReady
from flows.web.previews import Previews
from flows.web.trials import Trials, outcome_of, result_of
from stages.images import Pixels, read_image, read_mask
from stages.jobs.annotations import Annotations, Painted
from stages.jobs.complaints import first_complaint, one_line
from stages.jobs.edit import BadEdit, Edit
from stages.jobs.edits_file import FIELDS, Change, Fields, Line
from stages.jobs.ids import legal_id
from stages.jobs.image_folder import locate
from stages.planning.plan import plan_edits
from stages.reports.rendering import ASSETS, POLICY, asset, render
from stages.workbench import Workbench

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

OWN_ASSETS = (
    *("page.css", "viewer.css", "annotate.css"),
    *("viewer.js", "annotate_edits.js", "annotate_picture.js", "annotate.js"),
)
SERVED = f"{POLICY}; connect-src 'self'"
BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_EXPECTED = (AdaptiveDragError, ArtifactError, InvalidRequest, NotReady, OSError)
_ANYWHERE = {"handle": [0, 0], "target": [1, 0]}
"""A drag for what depends on none."""


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AskedImage(_Asked):
    """A picture of the job."""

    image: str


class AskedEdit(_Asked):
    """An edit as it stands on the page."""

    name: str
    fields: dict[str, Any]


class AskedChange(_Asked):
    """A change, and the mask that was painted; see `Change` and `Painted`."""

    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    mask: Annotated[str, Field(pattern=BASE64)] | None = None
    """A PNG, as base64."""
    seen: Digest | None = None


class AskedChanges(_Asked):
    """Everything that a page wants to save."""

    changes: list[AskedChange]


class Annotator:
    """Answers for a job what its page asks; every method may run in a thread of its own."""

    def __init__(self, job: Annotations, previews: Previews, trials: Trials) -> None:
        """Make previews and edits with benches that keep their models."""
        self.job, self.store = job, previews.bench.store
        self._previews, self._trials = previews, trials

    def page(self) -> str:
        """Return the page."""
        title = self.job.path.parent.name
        return render("annotate.html", title=f"Annotate {title}", policy=SERVED, job=self.job)

    def state(self) -> dict[str, Any]:
        """Return the job as it is now, and the id of the edit that is being made."""
        trial = self._trials.latest
        return {
            "images": [{"name": name, "stem": _stem_of(name)} for name in self.job.images()],
            "first": self.job.first,
            "edits": [_on_page(line) for line in self.job.lines()],
            "use_mask": self.job.spec.use_mask,
            "unpaintable": self.job.unpaintable,
            "trying": None if trial is None or trial.is_over else trial.edit.id,
        }

    def image(self, name: str) -> dict[str, Any]:
        """Return what is known of a picture, and what the reader says of its edits."""
        _, info = self.job.image(name)
        said = self._said_of([line for line in self.job.lines() if _image_of(line) == name])
        return {"width": info.width, "height": info.height, "notes": info.notes, "edits": said}

    def picture(self, name: str) -> Pixels:
        """Return a picture as edits see it."""
        path, info = self.job.image(name)
        return read_image(path, info.pixels)

    def mask(self, name: str) -> Pixels:
        """Return a mask, opaque white where an image may change, as uint8 RGBA."""
        import numpy as np

        path = locate(self.job.mask_root, name, follow_links=self.job.spec.follow_links)
        values = read_mask(path, self.job.spec.pixel_limit)
        white: Pixels = np.zeros((*values.shape, 4), np.uint8)
        white[values] = 255
        return white

    def superpixels(self, asked: AskedImage) -> dict[str, Any]:
        """Make what the previews of a picture's edits need."""
        line = {"id": "preview", "image": asked.image, "drags": [_ANYWHERE]}
        return {"made": self._previews.superpixels(_good(self.job.edit("", line)))}

    def preview(self, asked: AskedEdit) -> dict[str, Any]:
        """Say what the reader notes of an edit, and return the mask that it would have."""
        edit = self.job.edit(asked.name, asked.fields)
        if isinstance(edit, BadEdit):
            return {"problem": edit.reason}
        found = self._previews.mask(edit)
        if found is None:
            return {"superseded": True}
        return {
            "notes": [*edit.notes, *found.warnings],
            "share": found.share,
            "mask": f"data:image/png;base64,{base64.b64encode(found.png).decode()}",
        }

    def save(self, asked: AskedChanges) -> dict[str, Any]:
        """Make changes in the files of the job; return what it is now."""
        changes = [Change(each.name, each.before, each.after) for each in asked.changes]
        for change in changes:
            if change.before is change.after is None:
                raise InvalidEdit(f"change {change.name!r} is of nothing: give before or after")
            if {*(change.after or ())} - {*FIELDS}:
                raise InvalidEdit(f"a page may change {', '.join(FIELDS)}, and nothing else")
        masks = {
            each.name: Painted(base64.b64decode(each.mask), each.seen)
            for each in asked.changes
            if each.mask is not None
        }
        merged = self.job.save(changes, masks)
        conflicts = [asdict(conflict) for conflict in merged.conflicts]
        return {**self.state(), "names": merged.names, "conflicts": conflicts}

    def begin(self, asked: AskedEdit) -> dict[str, Any]:
        """Begin to make an edit."""
        self._trials.begin(_good(self.job.edit(asked.name, asked.fields)))
        return self.trial()

    def stop(self) -> dict[str, Any]:
        """Stop the edit that is being made."""
        self._trials.stop()
        return self.trial()

    def trial(self) -> dict[str, Any]:
        """Say how far the edit is that was begun last."""
        trial = self._trials.latest
        if trial is None:
            raise InvalidRequest("no edit was tried yet")
        state = {"id": trial.edit.id, "stage": trial.stage, "steps": trial.steps}
        if not trial.is_over:
            return state
        (plan,) = plan_edits([trial.edit], self.store)
        return {**state, "is_over": True, "reason": trial.reason, **outcome_of(plan)}

    def tried(self) -> Pixels:
        """Return the image that the last trial has made."""
        trial = self._trials.latest
        found = plan_edits([trial.edit] if trial else [], self.store)
        if not any(plan.done for plan in found):
            raise InvalidRequest("no edit was made yet")
        return result_of(found[0], self.store)

    def _said_of(self, lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
        """Return what the reader and the store say of edits, by the names of their lines."""
        raws = [line.edit for line in lines if isinstance(line.edit, dict)]
        edits = self.job.check(raws)
        outcomes = self._outcomes([edit for edit in edits if isinstance(edit, Edit)])
        found = {}
        for line, raw, edit in zip(lines, raws, edits, strict=True):
            said: dict[str, Any] = {"seen": self.job.mask_digest(raw.get("mask"))}
            if isinstance(edit, BadEdit):
                said["problem"] = edit.reason
            elif line.name != edit.id:
                said["problem"] = f"id {edit.id} is used in more than one line: rename it"
            else:
                said |= {"notes": edit.notes, **outcomes.get(edit.id, {})}
            found[line.name] = said
        return found

    def _outcomes(self, edits: Sequence[Edit]) -> dict[str, dict[str, Any]]:
        try:
            plans = plan_edits(edits, self.store)
        except AdaptiveDragError:  # who needs the model says what is wrong with it
            return {}
        return {plan.edit.id: outcome_of(plan) for plan in plans}


def annotation_site(job: Annotations, bench: Callable[[], Workbench]) -> "ASGIApp":
    """Return an app that serves the page of a job.

    Args:
        bench: makes one, for previews and for trials.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route

    annotator = Annotator(job, Previews(bench()), Trials(bench()))
    get, post = partial(_get, annotator), partial(_post, annotator)
    return Starlette(
        routes=[
            get("/", Annotator.page, None, "text/html"),
            *(Route(f"/{ASSETS}/{name}", _served(name)) for name in OWN_ASSETS),
            get("/job", Annotator.state, None),
            get("/image", Annotator.image, "name"),
            get("/picture.png", Annotator.picture, "name", "image/png"),
            get("/mask.png", Annotator.mask, "name", "image/png"),
            post("/superpixels", Annotator.superpixels, AskedImage),
            post("/preview", Annotator.preview, AskedEdit),
            post("/save", Annotator.save, AskedChanges),
            post("/try", Annotator.begin, AskedEdit),
            post("/stop", Annotator.stop, None),
            get("/trial", Annotator.trial, None),
            get("/tried.png", Annotator.tried, None, "image/png"),
        ]
    )


def _get(annotator: Annotator, path: str, answer: Any, query: str | None, kind: str = "") -> Any:
    """Return a route that answers with what a method returns.

    Args:
        query: the name of the method's argument in the address; None if it takes none.
        kind: media type of the answer; JSON by default.
    """
    from starlette.routing import Route

    async def endpoint(request: "Request") -> "Response":
        arguments = () if query is None else (request.query_params.get(query, ""),)
        return await _answered(partial(answer, annotator, *arguments), kind)

    return Route(path, endpoint)


def _post(annotator: Annotator, path: str, answer: Any, asked: type[_Asked] | None) -> Any:
    """Return a route that takes JSON; `asked` checks it."""
    from starlette.routing import Route

    async def endpoint(request: "Request") -> "Response":
        body = await request.body()

        def answered() -> Any:
            if asked is None:
                return answer(annotator)
            try:
                return answer(annotator, asked.model_validate_json(body))
            except ValidationError as error:
                raise InvalidRequest(first_complaint(error, asked)[1]) from None

        return await _answered(answered, "")

    return Route(path, endpoint, methods=["POST"])


async def _answered(answer: Callable[[], Any], kind: str) -> "Response":
    """Return an answer, or in one line why there is none."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse, Response

    try:
        found = await run_in_threadpool(lambda: _encoded(answer(), kind))
    except _EXPECTED as error:
        return JSONResponse({"error": one_line(error)}, 422)
    return Response(found, media_type=kind or "application/json")


def _encoded(found: Any, kind: str) -> bytes:
    if kind == "image/png":
        from PIL import Image

        encoded = io.BytesIO()
        Image.fromarray(found).save(encoded, "PNG", compress_level=1)
        return encoded.getvalue()
    return (found if kind else json.dumps(found)).encode()


def _served(name: str) -> "Callable[[Request], Awaitable[Response]]":
    from starlette.responses import Response

    kind = "text/css" if name.endswith(".css") else "text/javascript"

    async def endpoint(_request: "Request") -> "Response":
        return Response(asset(name), media_type=kind)

    return endpoint


def _good(edit: Edit | BadEdit) -> Edit:
    if isinstance(edit, BadEdit):
        raise InvalidEdit(edit.reason)
    return edit


def _stem_of(image: str) -> str:
    """Return the id of the first edit of a picture."""
    without_suffix = image.removesuffix(PurePosixPath(image).suffix)
    return legal_id(".".join(PurePosixPath(without_suffix).parts))


def _image_of(line: Line) -> object:
    return line.edit.get("image") if isinstance(line.edit, dict) else None


def _fields(edit: Mapping[str, Any]) -> Fields:
    return {key: edit[key] for key in FIELDS if key in edit}


def _on_page(line: Line) -> dict[str, Any]:
    """Return a line as the page has it: what may be changed, or why nothing may."""
    if isinstance(line.edit, BadEdit):
        return {"name": line.name, "problem": str(line.edit)}
    fields = _fields(line.edit)
    try:
        json.dumps(fields, allow_nan=False)
    except ValueError:  # 1e400 is JSON, but would not be where the page reads it
        return {"name": line.name, "problem": f"{line.name}: a number is too large: correct it"}
    return {"name": line.name, "fields": fields}
