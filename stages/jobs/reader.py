"""A job as users write it, a TOML file and a JSONL file of edits, turned into checked types.

One bad edit never stops the others: it becomes a `BadEdit` with one line that says what is wrong
and what to do. Nothing here loads a model, torch or the workflow engine.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, cast, get_args

from pydantic import ValidationError

from adaptivedrag.config import EditConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.mask_warnings import mask_warnings
from adaptivedrag.methods.method import LoraChoice
from adaptivedrag.model.lora_files import find_lora
from adaptivedrag.model.prompts import is_plain
from adaptivedrag.points import MIN_SIDE, Drag, outside
from adaptivedrag.presets import POCKET
from artifacts import StatCache
from stages.garbage import collector_paused
from stages.jobs.absent import stand_in
from stages.jobs.complaints import Refused, first_complaint, one_line, printable
from stages.jobs.edit import BASELINE, BadEdit, Edit, Job, Lora, SceneEdit, by_variant
from stages.jobs.forms import form_of_job
from stages.jobs.image_files import (
    IMAGE,
    MASK,
    ImageInfo,
    MaskInfo,
    inspect_image,
    inspect_mask,
)
from stages.jobs.image_folder import ImageFolder
from stages.jobs.lines import parse_line, read_lines, refuse_special
from stages.jobs.selection import Selection, select_edits
from stages.jobs.spec import (
    LONGEST_NAME,
    EditSpec,
    JobSpec,
    Settings,
    VariantSpec,
    extreme_setting,
    leaves,
    not_used,
    overlay,
    parse_spec,
    with_settings,
)
from stages.pipeline import JobConfig

LINES_AT_ONCE = 1_000
LARGEST_JOB = 1 << 14
"""Bytes of a job file: the time that TOML takes grows with the square of a table's depth."""
BY_MASK = {"build_mask": {"mode": "user"}}
"""What a mask that is used sets on top of all settings."""
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_ID_RULE = (
    "an id names files, so it has 1 to 128 letters, digits, '.', '_' or '-' and no leading '.'"
)


@collector_paused()
def load_job(
    path: Path,
    *,
    select: Selection = (),
    only: Collection[str] | None = None,
    beside: Mapping[str, Any] = MappingProxyType({}),
    on_edit: Callable[[int, int], None] = lambda _read, _edits: None,
) -> Job:
    """Read a job file and its edits; bad edits are in the result, beside the good ones.

    Args:
        select: which edits to keep; all by default. See `select_edits`.
        only: ids of the edits to look at; of others, no file is read, and `order` alone knows them.
        beside: keys of one variant more than the file has; none if they are empty.
        on_edit: called after each edit with how many are read and how many there are.

    Raises:
        InvalidEdit: if nothing can start: the job file or its edits file cannot be read or used,
            or nothing is selected.
    """
    spec = _read_spec(path)
    spec = with_settings(spec, dict(beside)) if beside else spec
    reader = _Reader.of(spec, path.resolve().parent).limited(only)
    edits = _place("edits", spec.edits, reader.folder)
    lines, found = list(read_lines(edits)), []
    for edit in reader.read(lines):
        found.append(edit)
        on_edit(len(found), len(lines) * (1 + len(spec.variants)))
    if not found:
        raise InvalidEdit(f"{edits} has no edits: write one per line, as JSON")
    broken = [edit for edit in found if isinstance(edit, BadEdit) and edit.is_broken]
    if 1 < len(broken) == len(found):
        raise InvalidEdit(f"no line of {edits} is JSON; the first: {broken[0].reason}")
    job = _as_job(_name_of(path), path.resolve(), found, reader)
    if only is None:
        _refuse_equal(job)
    return select_edits(job, select)


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a job file sets for the job as it is, checked, by key; see `JobSpec`.

    Raises:
        InvalidEdit: as `load_job`.
    """
    return _read_spec(path).model_dump(exclude_unset=True, exclude={"variants"})


def check_lines(
    spec: JobSpec, folder: Path, lines: Iterable[Mapping[str, Any]]
) -> list[Edit | BadEdit]:
    """Check edits as they may come to stand in a job's edits file, each by itself.

    Args:
        folder: that of the job file.

    Raises:
        InvalidEdit: if the job itself cannot be used.
    """
    reader = _Reader.of(spec, folder)
    return [replace(reader, first_lines={}).check(1, line) for line in lines]


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
    if spec and spec.variants:
        raise InvalidEdit("variants are of a job: write one, or edit the image once for each")
    spec = (spec or JobSpec()).model_copy(update={"follow_links": True})  # it names the file itself
    reader = _Reader.of(spec, Path.cwd(), image.absolute().parent)
    if mask is not None:
        reader = replace(reader, mask_root=ImageFolder(mask.absolute().parent, follow_links=True))
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


@dataclass(frozen=True)
class _LeftOut:
    """An edit that nobody asked for."""

    id: str


_Found: TypeAlias = Edit | BadEdit | _LeftOut


def _as_job(name: str, path: Path, found: Sequence[_Found], reader: "_Reader") -> Job:
    variants = tuple(each.variant for each in reader.variants)
    edits = tuple(edit for edit in found if isinstance(edit, Edit))
    bad = tuple(edit for edit in found if isinstance(edit, BadEdit))
    return Job(name, path, edits, bad, tuple(edit.id for edit in found), variants)


def _refuse_equal(job: Job) -> None:
    """Refuse variants that make every edit alike.

    Raises:
        InvalidEdit: naming one.
    """
    made: dict[tuple[object, ...], str] = {}
    for name, part in by_variant(job).items() if job.variants else ():
        if not part.edits:  # what is bad says why
            continue
        alike = made.setdefault(tuple(map(_making, part.edits)), name)
        if alike != name:
            other = "the job as it is" if alike == BASELINE else f"variant {alike!r}"
            raise InvalidEdit(
                f"{job.path}: variant {name!r} makes every edit as {other} does: change a setting "
                "of it, or remove it"
            )


def _making(edit: Edit) -> tuple[object, ...]:
    """Return all by which variants of an edit may differ."""
    return edit.id, edit.config, edit.model, edit.vae, edit.segmenter, edit.lora


def _name_of(path: Path) -> str:
    path = path.resolve()
    return (path.parent.name or "job") if path.name == "job.toml" else path.stem


def _id_from(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:128] or "edit"


def _read_spec(path: Path) -> JobSpec:
    try:
        refuse_special(path)
        with path.open("rb") as file:
            data = file.read(LARGEST_JOB + 1)
        if len(data) > LARGEST_JOB:
            long = f"a job file has at most {LARGEST_JOB >> 10} KiB: shorten it"
            raise InvalidEdit(_as_form(path, data) or long)
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
        why = _as_form(path, data) or f"{one_line(error)}: fix it"
        raise InvalidEdit(f"{path} is not valid TOML: {why}") from None


def _as_form(path: Path, data: bytes) -> str | None:
    form = form_of_job(path, data)
    return form and f"it is {form}"


@dataclass(frozen=True)
class _Reader:
    """What all edits of a job have in common, and what was seen so far."""

    folder: Path
    image_root: ImageFolder
    mask_root: ImageFolder
    lora: Lora
    model: str
    vae: str | None
    segmenter: str
    preset: str
    config: EditConfig
    unused: tuple[str, ...]
    """Lines about settings of the job for another drag method."""
    in_sampling: frozenset[str]
    """What the job sets of `sample_image`."""
    use_mask: bool
    mask_mode: str | None
    """The mode of `build_mask` that the job names itself."""
    pixel_limit: int
    cache: StatCache = field(default_factory=StatCache)
    first_lines: dict[str, tuple[str, int]] = field(default_factory=dict)
    files: dict[tuple[str, str], "tuple[Path, ImageInfo] | Refused"] = field(default_factory=dict)
    configs: dict[tuple[str, bool], tuple[EditConfig, tuple[str, ...]]] = field(
        default_factory=dict
    )
    variant: str = ""
    on_top: Settings = field(default_factory=dict)
    """What the variant sets, also of edits with settings of their own."""
    variants: tuple["_Reader", ...] = ()
    only: frozenset[str] | None = None
    """The edits to look at; all by default."""

    @classmethod
    def of(cls, spec: JobSpec, folder: Path, image_root: Path | None = None) -> "_Reader":
        images = image_root or _folder("image_root", spec.image_root, folder)
        masks = _folder("mask_root", spec.mask_root, folder) if spec.mask_root else images
        config, unused = spec.config()
        found = cls(
            folder=folder,
            image_root=ImageFolder(images, spec.follow_links),
            mask_root=ImageFolder(masks, spec.follow_links),
            lora=_lora(spec.lora, folder),
            model=_local("model", spec.model, folder),
            vae=_local("vae", spec.vae, folder) if spec.vae else None,
            segmenter=_local("segmenter", spec.segmenter, folder),
            preset=spec.preset,
            config=config,
            unused=unused,
            in_sampling=frozenset(spec.settings.get("sample_image", {})),
            use_mask=spec.use_mask,
            mask_mode=_mask_mode(spec.settings),
            pixel_limit=spec.pixel_limit,
        )
        variants = tuple(found._varied(spec, variant) for variant in spec.variants)
        return replace(found, variants=variants)

    def limited(self, only: Collection[str] | None) -> "_Reader":
        """Return a reader that looks at some edits only, and at their variants by themselves."""
        if only is None:
            return self
        variants = tuple(variant.limited(only) for variant in self.variants)
        return replace(self, only=frozenset(only), variants=variants)

    def _varied(self, spec: JobSpec, variant: VariantSpec) -> "_Reader":
        """Return the reader of a variant; what is seen of files and ids is seen by both."""
        reader = _Reader.of(spec.varied(variant), self.folder)
        return replace(
            reader,
            cache=self.cache,
            first_lines=self.first_lines,
            files=self.files,
            variant=variant.name,
            on_top=variant.settings,
        )

    def read(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[_Found]:
        """Read the lines of the edits file; what is known of files is recalled for many at once.

        An edit that can be done is followed by its variants.
        """
        for first in range(0, len(lines), LINES_AT_ONCE):
            some = lines[first : first + LINES_AT_ONCE]
            parsed = [(number, parse_line(number, line)) for number, line in some]
            whole = [raw for _, raw in parsed if not isinstance(raw, BadEdit) and self._wants(raw)]
            self.image_root.recall((raw.get("image") for raw in whole), IMAGE, self.cache)
            self.mask_root.recall((raw.get("mask") for raw in whole), MASK, self.cache)
            for number, raw in parsed:
                if isinstance(raw, BadEdit):
                    yield raw
                else:
                    yield from self._with_variants(number, raw)

    def _wants(self, raw: Mapping[str, Any]) -> bool:
        """Return whether an edit or a variant of it is to be looked at."""
        names = (reader._name(raw.get("id")) for reader in (self, *self.variants))
        return self.only is None or any(name in self.only for name in names)

    def _with_variants(self, number: int, raw: Mapping[str, Any]) -> Iterator[_Found]:
        found = self._check_wanted(number, raw)
        yield found
        if not isinstance(found, BadEdit):
            yield from (variant._check_wanted(number, raw) for variant in self.variants)

    def _check_wanted(self, number: int, raw: Mapping[str, Any]) -> _Found:
        name = self._name(raw.get("id"))
        if self.only is None or name in self.only:
            return self.check(number, raw)
        return _LeftOut(name)

    def _name(self, own_id: object) -> str:
        return f"{own_id}.{self.variant}" if self.variant else str(own_id)

    def check(self, number: int, raw: Mapping[str, Any]) -> Edit | BadEdit:
        """Check one edit, and everything that it names."""
        own_id, tags = f"line {number}", (*_tags_of(raw), *self._own_tag)
        try:
            own_id = self._claim_id(raw, number)
            return self._edit(_edit_spec(raw), own_id)
        except Refused as refused:
            return BadEdit(own_id, number, refused.field, str(refused), tags, self.variant)

    def _claim_id(self, raw: Mapping[str, Any], number: int) -> str:
        if "id" not in raw:
            raise Refused("id", 'id is missing: add a unique "id"')
        name = raw["id"]
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise Refused("id", f"id {printable(name)} cannot be used: {_ID_RULE}")
        name = self._name(name)
        if not _ID.fullmatch(name):
            raise Refused("id", f"id {printable(name)} of the variant is too long: shorten it")
        # Results are files named by id, and some file systems fold case.
        first, line = self.first_lines.setdefault(name.lower(), (name, number))
        if line != number:
            case = "" if first == name else f" as {first!r}, and ids may not differ by case alone"
            raise Refused(
                "id", f"id {name!r} (line {number}) is already used in line {line}{case}: rename it"
            )
        return name

    def _edit(self, spec: EditSpec, own_id: str) -> Edit:
        image_path, image = self._file("image", spec.image)
        drags = tuple(drag.drag for drag in spec.drags)
        if taken := {*spec.tags} & {*self._own_tag, *(each.variant for each in self.variants)}:
            raise Refused("tags", f"tag {min(taken)!r} is the name of a variant, too: rename one")
        _refuse_small(spec.image, image)
        if wrong := outside(drags, image.width, image.height):
            raise Refused(*wrong)
        is_masked = self.use_mask and spec.mask is not None
        config, unused = self._config(spec.settings, is_masked=is_masked)
        mask_path, mask = self._mask(spec, image, config)
        return Edit(
            id=own_id,
            image_path=image_path,
            image=image,
            prompt=spec.prompt,
            drags=drags,
            tags=(*spec.tags, *self._own_tag),
            mask_path=mask_path,
            mask_digest=mask.digest if mask else None,
            config=config,
            unused=tuple(dict.fromkeys((*self.unused, *unused))),
            mask_notes=tuple(self._mask_notes(spec, mask, config)) if mask else (),
            lora=self.lora,
            model=self.model,
            vae=self.vae,
            segmenter=self.segmenter,
            preset=self.preset,
            scene=_scene_edit(spec, image),
            variant=self.variant,
        )

    @property
    def _own_tag(self) -> tuple[str, ...]:
        """The tag by which the edits of a variant, or of none, are selected, if there are any."""
        named = self.variant or (BASELINE if self.variants else "")
        return (named,) if named else ()

    def _mask(
        self, spec: EditSpec, image: ImageInfo, config: EditConfig
    ) -> tuple[Path | None, MaskInfo | None]:
        if spec.mask is None:
            if config.build_mask.mode == "user":
                raise Refused("mask", 'mask is missing, and build_mask.mode is "user": name a mask')
            return None, None
        path, mask = self._file("mask", spec.mask)
        assert isinstance(mask, MaskInfo)
        if (mask.width, mask.height) != (image.width, image.height):
            raise Refused(
                "mask",
                f"mask {spec.mask!r} is {mask.width}x{mask.height} and the image "
                f"{image.width}x{image.height}: give both the same size",
            )
        return path, mask

    def _mask_notes(self, spec: EditSpec, mask: MaskInfo, config: EditConfig) -> Iterator[str]:
        """Say how an edit's mask is used and read, and what is odd about it."""
        if config.build_mask.mode != "user":
            yield "its mask is left aside, because use_mask is false"
            return
        if not self.use_mask:
            yield 'its mask is used though use_mask is false, because build_mask.mode is "user"'
        said = _mask_mode(spec.settings) or self.mask_mode
        if said not in (None, "user"):
            yield f'build_mask.mode = "{said}" is not used, because its mask says what may change'
        yield from (f"mask: {note}" for note in mask.notes)
        yield from mask_warnings(mask.share, mask.holds, [drag.drag for drag in spec.drags])

    def _file(self, name: str, value: str) -> tuple[Path, ImageInfo]:
        """Return an image or mask; each is looked at once, however many edits share it."""
        seen = self.files.get((name, value))
        if seen is None:
            seen = self.files[name, value] = self._look(name, value)
        if isinstance(seen, Refused):
            raise seen
        return seen

    def _look(self, name: str, value: str) -> "tuple[Path, ImageInfo] | Refused":
        root, inspect = (
            (self.image_root, inspect_image) if name == "image" else (self.mask_root, inspect_mask)
        )
        try:
            path = root.locate(value)
        except InvalidEdit as error:
            return Refused(name, f"{name} {one_line(error)}")
        try:
            return path, inspect(path, self.cache, self.pixel_limit)
        except InvalidEdit as error:
            return Refused(name, f"{name} {stand_in(path) or one_line(error)}")
        except OSError as error:
            return Refused(name, f"{name} {value!r} cannot be read: {error.strerror}")

    def _config(self, settings: Settings, *, is_masked: bool) -> tuple[EditConfig, tuple[str, ...]]:
        # By repr, since 1, 1.0 and true are equal and may not share settings.
        key = repr(settings), is_masked
        seen = self.configs.get(key)
        if seen is None:
            try:
                config, unused = overlay(self.config, settings)
                config, _ = overlay(config, self.on_top)
            except ValidationError as error:
                raise Refused(*first_complaint(error, JobConfig, "settings")) from None
            if extreme := extreme_setting(settings, "settings."):
                raise Refused(*extreme)
            unused += (*self._overruled(settings), *self._idle_in_sampling(config, settings))
            seen = self.configs[key] = config.merged(BY_MASK) if is_masked else config, unused
        return seen

    def _overruled(self, settings: Settings) -> Iterator[str]:
        """Name what the edit sets and its variant sets otherwise."""
        ours, theirs = (dict(leaves(each)) for each in (self.on_top, settings))
        for name in ours.keys() & theirs.keys():
            if ours[name] != theirs[name]:
                yield not_used(f"settings.{name}", f"variant {self.variant!r} sets it")

    def _idle_in_sampling(self, config: EditConfig, settings: Settings) -> Iterator[str]:
        """Name what the job or the edit sets of `sample_image` and nothing reads."""
        named = self.in_sampling | settings.get("sample_image", {}).keys()
        for name, why in config.idle_in_sampling.items():
            if name in named:
                yield not_used(f"sample_image.{name}", why)


def _place(name: str, value: str, folder: Path) -> Path:
    """Return the path that a key of the job file names, whether or not anything is there."""
    try:
        path = (folder / Path(value).expanduser()).resolve()
        path.exists()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidEdit(
            f"{name} = {printable(value)} cannot be used ({reason}): correct it in the job file"
        ) from None
    return path


def _folder(name: str, value: str, folder: Path) -> Path:
    path = _place(name, value, folder)
    if not path.is_dir():
        raise InvalidEdit(f"{name} {path} is not a folder: correct it in the job file")
    return path


def _lora(value: str, folder: Path) -> Lora:
    if value in get_args(LoraChoice):
        return cast(LoraChoice, value)
    # Not the place that a link leads to: in a hub's cache that has another name.
    named = (folder / Path(value).expanduser()).absolute()
    if not (_place("lora", value, folder).is_file() or named.is_dir()):
        raise InvalidEdit(
            f'lora {printable(value)} is not "auto", "train", "off", a .safetensors file or a '
            f"folder with one in {folder}: correct it"
        )
    return find_lora(named)


def _local(kind: str, name: str, folder: Path) -> str:
    """Return the absolute path of a model that lies beside the job; a hub's id as it is."""
    if name == POCKET:
        return name
    path = _place(kind, name, folder)
    return str(path) if path.exists() else name


def _mask_mode(settings: Settings) -> str | None:
    """Return the mode of `build_mask` that checked settings name, if they do."""
    mode: str | None = settings.get("build_mask", {}).get("mode")
    return mode


def _edit_spec(raw: Mapping[str, Any]) -> EditSpec:
    try:
        return EditSpec.model_validate(raw)
    except ValidationError as error:
        field, reason = first_complaint(error, EditSpec)
        more = "" if "did you mean" in reason else _taken_by_import(error)
        raise Refused(field, reason + more) from None


def _taken_by_import(error: ValidationError) -> str:
    """Say what reads points and keys in other forms, if it is those that an edit has."""
    for each in error.errors(include_url=False, include_context=False):
        place, form = each["loc"], each["type"]
        other_drags = place[:1] == ("drags",) and form in ("model_type", "tuple_type", "list_type")
        if other_drags or (form == "extra_forbidden" and len(place) == 1):
            return "; `adaptivedrag import json` takes other forms"
    return ""


def _tags_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tags of an edit that may be bad: those that can be printed."""
    tags = raw.get("tags")
    texts = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return tuple(tag for tag in texts if len(tag) <= LONGEST_NAME and is_plain(tag))


def _refuse_small(name: str, image: ImageInfo) -> None:
    if min(image.width, image.height) < MIN_SIDE:
        raise Refused(
            "image",
            f"image {name!r} is {image.width}x{image.height} pixels, and both sides need at least "
            f"{MIN_SIDE}: enlarge it",
        )


def _scene_edit(spec: EditSpec, image: ImageInfo) -> SceneEdit | None:
    """Check that the scene can have such a drag; whether it is seen is found when it is judged."""
    if spec.scene is None:
        return None
    number, drag = spec.scene.number, spec.scene.drag
    if image.width != image.height:
        raise Refused(
            "scene",
            f"scene {number} is a square picture, and image {spec.image!r} is "
            f"{image.width}x{image.height}: import the scene again, or remove `scene`",
        )
    if drag >= (count := _drags_at_most(number)):
        raise Refused(
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
