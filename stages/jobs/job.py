"""A job as users write it, a TOML file and a JSONL file of edits, turned into checked types.

One bad edit never stops the others: it becomes a `BadEdit` with one line that says what is wrong
and what to do. Nothing here loads a model, torch or the workflow engine.
"""

import difflib
import json
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from adaptivedrag.config import Dtype, EditConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import MIN_SIDE, Drag, ImagePoint, lies_inside
from adaptivedrag.presets import POCKET, preset
from artifacts import Digest, StatCache
from stages import STAGE_NAMES
from stages.jobs.image_files import (
    IMAGE,
    MASK,
    ImageFolder,
    ImageInfo,
    inspect_image,
    inspect_mask,
)
from stages.keeping import keeping_all

EDITS_FILE = "edits.jsonl"
MOST_DRAGS = 100
LONGEST_LINE = 1 << 20
LINES_AT_ONCE = 1_000
LARGEST_JOB = 1 << 14
"""Bytes of a job file: TOML takes time that grows with the square of a table's depth."""
LARGEST_COUNT = 10**9
LARGEST_SETTING = 1e30
"""Settings are scaled to the size of the latents, and have to stay numbers."""
_LIMITS = (
    f"give a whole number up to {LARGEST_COUNT}, 0, or a fraction from {1 / LARGEST_SETTING:g} "
    f"to {LARGEST_SETTING:g}"
)
SHARED_SETTINGS = ("dtype", "seed", "working_size")

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_ID_RULE = (
    "an id names files, so it has 1 to 128 letters, digits, '.', '_' or '-' and no leading '.'"
)
_PLAIN_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
_SHOWN = 60
_BITS_SHOWN = 1000

Lora: TypeAlias = Literal["train", "off"] | Path
Whole = Annotated[int, Field(strict=True)]
Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False)]


def _plain(text: str) -> str:
    if not _PLAIN_TEXT.fullmatch(text):
        raise ValueError("it holds a control character: remove it")
    return text


Text = Annotated[str, StringConstraints(strict=True, max_length=2000), AfterValidator(_plain)]
Name = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=1000), AfterValidator(_plain)
]
Settings: TypeAlias = dict[str, Any]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobSpec(_Spec):
    """The keys of a job file; tables of settings are named as the stages."""

    model: Name = POCKET
    segmenter: Name = POCKET
    preset: Name = "paper"
    edits: Name = EDITS_FILE
    image_root: Name = "."
    """Folder of the images, relative to the job file; nothing outside it is read."""
    mask_root: Name | None = None
    """Folder of the masks, relative to the job file; by default that of the images."""
    lora: Name = "train"
    dtype: Dtype | None = None
    seed: Whole | None = None
    working_size: Whole | None = None
    train_lora: Settings = {}
    invert_image: Settings = {}
    extract_superpixels: Settings = {}
    build_mask: Settings = {}
    optimize_latent: Settings = {}
    sample_image: Settings = {}

    @property
    def settings(self) -> Settings:
        """What the file sets on top of its preset."""
        given = {name: getattr(self, name) for name in (*SHARED_SETTINGS, *STAGE_NAMES)}
        return {name: value for name, value in given.items() if value not in (None, {})}


class DragSpec(_Spec):
    """One drag, in pixels (x, y) of the image as it is seen after EXIF orientation."""

    handle: tuple[Coordinate, Coordinate]
    target: tuple[Coordinate, Coordinate]

    @property
    def drag(self) -> Drag:
        """The drag as the method takes it."""
        return Drag(ImagePoint(*self.handle), ImagePoint(*self.target))


class SceneSpec(_Spec):
    """Which drag of which rendered scene an edit is."""

    number: Annotated[int, Field(strict=True, ge=0, lt=2**32)]
    drag: Annotated[int, Field(strict=True, ge=0)]


class EditSpec(_Spec):
    """The keys of one line of the edits file."""

    id: Annotated[str, StringConstraints(strict=True)]
    image: Name
    prompt: Text = ""
    drags: Annotated[tuple[DragSpec, ...], Field(min_length=1, max_length=MOST_DRAGS)]
    mask: Name | None = None
    tags: tuple[Name, ...] = ()
    settings: Settings = {}
    scene: SceneSpec | None = None


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
    scene: SceneEdit | None = None


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

    def __str__(self) -> str:
        place = "" if self.id == f"line {self.line}" else f" (line {self.line})"
        return f"{self.id}{place}: {self.reason}"


@dataclass(frozen=True)
class Job:
    """A job, checked.

    Attributes:
        order: ids of all edits of the file, good and bad, also of those that are not selected.
    """

    name: str
    path: Path
    edits: tuple[Edit, ...]
    bad: tuple[BadEdit, ...]
    order: tuple[str, ...]


class _Refused(Exception):
    """One thing wrong with one edit."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


@keeping_all()
def load_job(
    path: Path,
    *,
    select: str | None = None,
    on_edit: Callable[[int, int], None] = lambda _read, _edits: None,
) -> Job:
    """Read a job file and its edits; bad edits are in the result, beside the good ones.

    Args:
        select: keep only edits with such an id (with * and ?) or with exactly such a tag.
        on_edit: told how many edits of how many were read, images that are new included.

    Raises:
        InvalidEdit: if nothing can start: the job file or its edits file cannot be read or used,
            or nothing is selected.
    """
    spec = _read_spec(path)
    reader = _Reader.of(spec, path.resolve().parent)
    edits = _place("edits", spec.edits, reader.folder)
    lines, found = list(_lines(edits)), []
    for edit in reader.read(lines):
        found.append(edit)
        on_edit(len(found), len(lines))
    if not found:
        raise InvalidEdit(f"{edits} has no edits: write one per line, as JSON")
    job = _as_job(_name_of(path), path.resolve(), found)
    return select_edits(job, select) if select is not None else job


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a job file sets, checked, by key; see `JobSpec`.

    Raises:
        InvalidEdit: as `load_job`.
    """
    return _read_spec(path).model_dump(exclude_unset=True)


def select_edits(job: Job, pattern: str) -> Job:
    """Keep the edits with an id that matches `pattern` (with * and ?) or with exactly that tag.

    Raises:
        InvalidEdit: if there are none.
    """

    def wanted(edit: Edit | BadEdit) -> bool:
        return fnmatchcase(edit.id, pattern) or pattern in edit.tags

    edits = tuple(edit for edit in job.edits if wanted(edit))
    bad = tuple(edit for edit in job.bad if wanted(edit))
    if not edits and not bad:
        raise InvalidEdit(f"no id and no tag of {job.path} matches {pattern!r}")
    return replace(job, edits=edits, bad=bad)


def single_edit(
    image: Path,
    drags: Sequence[Drag],
    *,
    prompt: str = "",
    mask: Path | None = None,
    spec: JobSpec | None = None,
) -> Job:
    """Make a job of one edit of one image; relative paths are relative to the working folder.

    Raises:
        InvalidEdit: if anything is wrong with it.
    """
    reader = _Reader.of(spec or JobSpec(), Path.cwd(), image.absolute().parent)
    if mask is not None:
        reader = replace(reader, mask_root=ImageFolder(mask.absolute().parent))
    points = [{"handle": [*drag.handle], "target": [*drag.target]} for drag in drags]
    line: dict[str, Any] = {
        "id": _id_from(image.stem),
        "image": image.name,
        "prompt": prompt,
        "drags": points,
    }
    if mask is not None:
        line["mask"] = mask.name
    found = reader.check(1, line)
    if isinstance(found, BadEdit):
        raise InvalidEdit(f"{image}: {found.reason}")
    return Job(found.id, image.absolute(), (found,), (), (found.id,))


def _as_job(name: str, path: Path, found: Sequence[Edit | BadEdit]) -> Job:
    edits = tuple(edit for edit in found if isinstance(edit, Edit))
    bad = tuple(edit for edit in found if isinstance(edit, BadEdit))
    return Job(name, path, edits, bad, tuple(edit.id for edit in found))


def _name_of(path: Path) -> str:
    path = path.resolve()
    return (path.parent.name or "job") if path.name == "job.toml" else path.stem


def _id_from(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:128] or "edit"


def parse_spec(raw: Mapping[str, Any]) -> JobSpec:
    """Check the keys and values of a job file, and that its settings can be used.

    Raises:
        InvalidEdit: in one line: the key, its value and the remedy.
    """
    try:
        spec = JobSpec.model_validate(raw)
    except ValidationError as error:
        raise InvalidEdit(_first_complaint(error, JobSpec)[1]) from None
    _job_config(spec)
    return spec


def _read_spec(path: Path) -> JobSpec:
    try:
        _refuse_special(path)
        with path.open("rb") as file:
            data = file.read(LARGEST_JOB + 1)
        if len(data) > LARGEST_JOB:
            raise InvalidEdit(f"a job file has at most {LARGEST_JOB >> 10} KiB: shorten it")
        return parse_spec(tomllib.loads(data.decode("utf-8-sig")))
    except InvalidEdit as error:
        raise InvalidEdit(f"{path}: {error}") from None
    except FileNotFoundError:
        raise InvalidEdit(f"{path} does not exist: name a job file such as job.toml") from None
    except OSError as error:
        raise InvalidEdit(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise InvalidEdit(f"{path} is nested too deeply: flatten it") from None
    # Of a date that does not exist or a giant number, the reader raises plain ValueErrors.
    except ValueError as error:
        raise InvalidEdit(f"{path} is not valid TOML: {_one_line(error)}: mend it") from None


def _refuse_special(path: Path) -> None:
    """Refuse what would block, or never end, when it is opened."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InvalidEdit(f"{path} is not a regular file: name another")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    try:
        _refuse_special(path)
        with path.open("rb") as file:
            lines = iter(lambda: file.readline(LONGEST_LINE + 1), b"")
            number, inside = 0, False
            for line in lines:
                # A line longer than the limit arrives in pieces; the first says it all.
                number, continued = number + (not inside), inside
                inside = not line.endswith(b"\n")
                if not continued and (line := line.strip().removeprefix(b"\xef\xbb\xbf")):
                    yield number, line
    except FileNotFoundError:
        raise InvalidEdit(f"{path} does not exist: correct `edits` in the job file") from None
    except OSError as error:
        raise InvalidEdit(f"{path} cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class _Reader:
    """What all edits of a job have in common, and what was seen so far."""

    folder: Path
    image_root: ImageFolder
    mask_root: ImageFolder
    lora: Lora
    model: str
    segmenter: str
    config: EditConfig
    cache: StatCache = field(default_factory=StatCache)
    first_lines: dict[str, tuple[str, int]] = field(default_factory=dict)
    files: dict[tuple[str, str], "tuple[Path, ImageInfo] | _Refused"] = field(default_factory=dict)
    configs: dict[str, EditConfig] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: JobSpec, folder: Path, image_root: Path | None = None) -> "_Reader":
        images = image_root or _folder("image_root", spec.image_root, folder)
        masks = _folder("mask_root", spec.mask_root, folder) if spec.mask_root else images
        return cls(
            folder=folder,
            image_root=ImageFolder(images),
            mask_root=ImageFolder(masks),
            lora=_lora(spec.lora, folder),
            model=_local("model", spec.model, folder),
            segmenter=_local("segmenter", spec.segmenter, folder),
            config=_job_config(spec),
        )

    def read(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[Edit | BadEdit]:
        """Read the lines of the edits file; what is known of files is recalled for many at once."""
        for first in range(0, len(lines), LINES_AT_ONCE):
            some = lines[first : first + LINES_AT_ONCE]
            parsed = [(number, _parsed(number, line)) for number, line in some]
            whole = [raw for _, raw in parsed if not isinstance(raw, BadEdit)]
            self.image_root.recall((raw.get("image") for raw in whole), IMAGE, self.cache)
            self.mask_root.recall((raw.get("mask") for raw in whole), MASK, self.cache)
            for number, raw in parsed:
                yield raw if isinstance(raw, BadEdit) else self.check(number, raw)

    def check(self, number: int, raw: Mapping[str, Any]) -> Edit | BadEdit:
        """Check one edit, and everything that it names."""
        own_id, tags = f"line {number}", _tags_of(raw)
        try:
            own_id = self._claim_id(raw, number)
            return self._edit(_edit_spec(raw))
        except _Refused as refused:
            return BadEdit(own_id, number, refused.field, str(refused), tags)

    def _claim_id(self, raw: Mapping[str, Any], number: int) -> str:
        if "id" not in raw:
            raise _Refused("id", 'id is missing: add a unique "id"')
        name = raw["id"]
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise _Refused("id", f"id {_shown(name)} cannot be used: {_ID_RULE}")
        # Results are files named by id, and some file systems fold case.
        first, line = self.first_lines.setdefault(name.lower(), (name, number))
        if line != number:
            case = "" if first == name else f" as {first!r}, and ids may not differ by case alone"
            raise _Refused(
                "id", f"id {name!r} (line {number}) is already used in line {line}{case}: rename it"
            )
        return name

    def _edit(self, spec: EditSpec) -> Edit:
        image_path, image = self._file("image", spec.image)
        drags = tuple(drag.drag for drag in spec.drags)
        _refuse_small(spec.image, image)
        _refuse_outside(drags, image)
        config = self._config(spec.settings)
        mask_path, mask = self._mask(spec, image, config)
        return Edit(
            id=spec.id,
            image_path=image_path,
            image=image,
            prompt=spec.prompt,
            drags=drags,
            tags=spec.tags,
            mask_path=mask_path,
            mask_digest=mask.digest if mask else None,
            config=config,
            lora=self.lora,
            model=self.model,
            segmenter=self.segmenter,
            scene=_scene_edit(spec, image),
        )

    def _mask(
        self, spec: EditSpec, image: ImageInfo, config: EditConfig
    ) -> tuple[Path | None, ImageInfo | None]:
        if spec.mask is None:
            if config.build_mask.mode == "user":
                raise _Refused(
                    "mask", 'mask is missing, and build_mask.mode is "user": name a mask'
                )
            return None, None
        path, mask = self._file("mask", spec.mask)
        if (mask.width, mask.height) != (image.width, image.height):
            raise _Refused(
                "mask",
                f"mask {spec.mask!r} is {mask.width}x{mask.height} and the image "
                f"{image.width}x{image.height}: give both the same size",
            )
        return path, mask

    def _file(self, name: str, value: str) -> tuple[Path, ImageInfo]:
        """Return an image or mask; each is looked at once, however many edits share it."""
        seen = self.files.get((name, value))
        if seen is None:
            seen = self.files[name, value] = self._look(name, value)
        if isinstance(seen, _Refused):
            raise seen
        return seen

    def _look(self, name: str, value: str) -> "tuple[Path, ImageInfo] | _Refused":
        root, inspect = (
            (self.image_root, inspect_image) if name == "image" else (self.mask_root, inspect_mask)
        )
        try:
            path = root.locate(value)
            return path, inspect(path, self.cache)
        except InvalidEdit as error:
            return _Refused(name, f"{name} {_one_line(error)}")
        except OSError as error:
            return _Refused(name, f"{name} {value!r} cannot be read: {error.strerror}")

    def _config(self, settings: Settings) -> EditConfig:
        # By repr, since 1, 1.0 and true are equal and may not share settings.
        seen = self.configs.get(repr(settings))
        if seen is None:
            try:
                seen = self.configs[repr(settings)] = self.config.merged(settings)
            except ValidationError as error:
                raise _Refused(*_first_complaint(error, EditConfig, "settings")) from None
            if extreme := _extreme(settings, "settings."):
                raise _Refused(*extreme)
        return seen


def _place(name: str, value: str, folder: Path) -> Path:
    """Return the path that a key of the job file names, whether or not anything is there."""
    try:
        path = (folder / Path(value).expanduser()).resolve()
        path.exists()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidEdit(
            f"{name} = {_shown(value)} cannot be used ({reason}): correct it in the job file"
        ) from None
    return path


def _folder(name: str, value: str, folder: Path) -> Path:
    path = _place(name, value, folder)
    if not path.is_dir():
        raise InvalidEdit(f"{name} {path} is not a folder: correct it in the job file")
    return path


def _lora(value: str, folder: Path) -> Lora:
    if value in ("train", "off"):
        return "train" if value == "train" else "off"
    path = _place("lora", value, folder)
    if path.suffix != ".safetensors" or not path.is_file():
        raise InvalidEdit(
            f'lora {_shown(value)} is not "train", "off" or a .safetensors file in {folder}: '
            "correct it"
        )
    return path


def _local(kind: str, name: str, folder: Path) -> str:
    """Return the absolute path of a model that lies beside the job; a hub's id as it is."""
    if name == POCKET:
        return name
    path = _place(kind, name, folder)
    return str(path) if path.exists() else name


def _job_config(spec: JobSpec) -> EditConfig:
    try:
        config = preset(spec.preset, spec.model).merged(spec.settings)
    except ValidationError as error:
        raise InvalidEdit(_first_complaint(error, EditConfig)[1]) from None
    if extreme := _extreme(spec.settings):
        raise InvalidEdit(extreme[1])
    return config


def _extreme(settings: Settings, above: str = "") -> tuple[str, str] | None:
    """Find a number that could not be scaled to the latents: its path, and what to say of it."""
    for name, value in settings.items():
        path = f"{above}{name}"
        values = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict):
            if extreme := _extreme(value, f"{path}."):
                return extreme
        elif name != "seed" and any(_is_extreme(each) for each in values):
            return path, f"{path} = {_shown(value)} cannot be used: {_LIMITS}"
    return None


def _is_extreme(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) > LARGEST_COUNT
    if not isinstance(value, float) or value == 0:
        return False
    return not 1 / LARGEST_SETTING <= abs(value) <= LARGEST_SETTING


def _parsed(number: int, line: bytes) -> dict[str, Any] | BadEdit:
    try:
        return _parse(line)
    except _Refused as refused:
        return BadEdit(f"line {number}", number, refused.field, str(refused))


def _parse(line: bytes) -> dict[str, Any]:
    """Read one JSON object, refusing what Python's reader would let through."""
    if len(line) > LONGEST_LINE:
        raise _Refused("", f"the line is longer than {LONGEST_LINE >> 20} MiB: split the edit")
    try:
        raw = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Refused("", f"not UTF-8 at byte {error.start}: save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise _Refused("", f"broken JSON at column {error.colno}: {error.msg}: mend it") from None
    except RecursionError:
        raise _Refused("", "JSON is nested too deeply: flatten it") from None
    except ValueError as error:
        raise _Refused("", f"broken JSON: {_one_line(error)}") from None
    if not isinstance(raw, dict):
        raise _Refused("", f'{_shown(raw)} is not an edit: write {{"id": …, "image": …}}')
    return raw


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused("", f"{name} is not JSON: write a finite number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
        raise _Refused(_key_name(twice), f"key {_shown(twice)} is there twice: keep one")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates)


def _edit_spec(raw: Mapping[str, Any]) -> EditSpec:
    try:
        return EditSpec.model_validate(raw)
    except ValidationError as error:
        raise _Refused(*_first_complaint(error, EditSpec)) from None


def _tags_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tags of an edit that may be bad: those that can be shown."""
    tags = raw.get("tags")
    texts = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return tuple(tag for tag in texts if len(tag) <= 1000 and _PLAIN_TEXT.fullmatch(tag))


def _refuse_small(name: str, image: ImageInfo) -> None:
    if min(image.width, image.height) < MIN_SIDE:
        raise _Refused(
            "image",
            f"image {name!r} is {image.width}x{image.height} pixels, and both sides need at least "
            f"{MIN_SIDE}: enlarge it",
        )


def _refuse_outside(drags: Sequence[Drag], image: ImageInfo) -> None:
    for number, drag in enumerate(drags):
        for name, point in (("handle", drag.handle), ("target", drag.target)):
            if not lies_inside(point, image.width, image.height):
                where = f"drags[{number}].{name}"
                raise _Refused(
                    where,
                    f"{where} ({point.x:g}, {point.y:g}) lies outside the "
                    f"{image.width}x{image.height} image: x goes from 0 to {image.width - 1} and "
                    f"y from 0 to {image.height - 1}",
                )


def _scene_edit(spec: EditSpec, image: ImageInfo) -> SceneEdit | None:
    """Check that the scene can have such a drag; whether it is seen is found when it is judged."""
    if spec.scene is None:
        return None
    number, drag = spec.scene.number, spec.scene.drag
    if image.width != image.height:
        raise _Refused(
            "scene",
            f"scene {number} is a square picture, and image {spec.image!r} is "
            f"{image.width}x{image.height}: import the scene again, or remove `scene`",
        )
    if drag >= (count := _drags_at_most(number)):
        raise _Refused(
            "scene.drag",
            f"scene.drag = {drag} cannot be used: scene {number} has at most {count} drags, "
            "counted from 0",
        )
    return SceneEdit(number, drag)


@cache
def _drags_at_most(number: int) -> int:
    """Count the drags that a scene may have, without painting it to see which are visible."""
    from adaptivedrag.scenes import benchmark_scene

    return sum(1 for _ in benchmark_scene(number).candidates())


def _first_complaint(
    error: ValidationError, model: type[BaseModel], root: str = ""
) -> tuple[str, str]:
    """Say in one line what pydantic found first: the field, and field, value and remedy."""
    details = error.errors(include_url=False, include_context=False)
    first = details[0]
    path = _path((root, *first["loc"]) if root else first["loc"])
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return path, _complaint(first["type"], path, first, model) + more


def _complaint(kind: str, path: str, detail: Mapping[str, Any], model: type[BaseModel]) -> str:
    match kind:
        case "extra_forbidden":
            return f"unknown key '{path}': {_known_keys(detail['loc'], model)}"
        case "missing":
            return f"{path} is missing: add it"
        case "too_short" if path == "drags":
            return "drags is empty: give at least one handle and target"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            remedy = message[:1].lower() + message[1:]
            return f"{path or 'a key'} = {_shown(detail['input'])} cannot be used: {remedy}"


def _known_keys(location: Sequence[int | str], model: type[BaseModel]) -> str:
    for name in location[:-1]:
        model = _section(model, name)
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


_NESTED: Mapping[str, type[BaseModel]] = {"drags": DragSpec, "scene": SceneSpec}


def _section(model: type[BaseModel], name: int | str) -> type[BaseModel]:
    """Return the model of a nested table; an index into a list leads to its items."""
    if isinstance(name, int):
        return model
    if model is EditSpec and name in _NESTED:
        return _NESTED[name]
    found = model.model_fields[name].annotation
    return found if isinstance(found, type) and issubclass(found, BaseModel) else model


def _path(location: Sequence[int | str]) -> str:
    text = "".join(
        f"[{name}]" if isinstance(name, int) else f".{_key_name(name)}" for name in location
    )
    return text.removeprefix(".")


def _key_name(name: str) -> str:
    """Return a key as it may be shown: a hostile one is long, or holds control characters."""
    return _shortened(repr(name)[1:-1])


def _shown(value: object) -> str:
    """Return a value as it may be shown in one line."""
    if isinstance(value, dict | list):
        return type(value).__name__
    if isinstance(value, int) and value.bit_length() > _BITS_SHOWN:
        return f"a number of {value.bit_length()} bits"  # Python refuses to write it out
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
