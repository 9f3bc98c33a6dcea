"""Edits of a table or a list, by whatever names people call its columns and keys, as a job."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from adaptivedrag.errors import InvalidEdit
from stages.jobs.absent import remedy
from stages.jobs.ids import Ids
from stages.jobs.image_folder import locate
from stages.jobs.importers.points import drags_of, is_nothing, keys_beside_ends
from stages.jobs.importers.text import prompt_of
from stages.jobs.importers.writer import (
    IMAGE_FOLDER,
    MASK_FOLDER,
    Imported,
    Line,
    cannot_write,
    unfinished,
    write_job,
    write_picture,
)

NAMES = {
    "id": ("id", "edit_id", "name"),
    "image": (
        *("image", "image_path", "img", "img_path", "file_name", "filename", "file", "path"),
        *("original_image", "source_image", "input_image", "image_file"),
    ),
    "prompt": ("prompt", "text", "caption", "description"),
    "mask": ("mask", "mask_path"),
    "tags": ("tags", "tag", "category"),
    "settings": ("settings",),
    "scene": ("scene",),
}
"""Keys of the edits file, and what else they are called."""
OF_METHOD = "method"
"""What an export has as `mask_of` where its mask is none of the user's, who gave none."""


Values: TypeAlias = Mapping[str, Any] | InvalidEdit
"""What a record says, by its own keys, or why it cannot be read."""


@dataclass(frozen=True)
class Manifest:
    """A file of edits, where its images are, and where its job goes.

    Attributes:
        is_table: whether rows with one id are drags of one edit.
    """

    path: Path
    images: Path
    out: Path
    follow_links: bool
    is_table: bool

    @classmethod
    def of(
        cls, path: Path, out: Path | None, images: Path | None, *, follow_links: bool, table: bool
    ) -> "Manifest":
        """Take what was named; images and job are beside the file by default.

        Raises:
            InvalidEdit: if the file or the folder of images is not there.
        """
        if not path.exists():
            raise InvalidEdit(f"{path} does not exist: {remedy(path.parent, path.name)}")
        folder = path if path.is_dir() else path.parent
        if images is not None and not images.is_dir():
            raise InvalidEdit(f"{images} is not a folder: name the folder of the images")
        return cls(path, images or folder, out or folder, follow_links, table)

    def read(
        self, records: Iterable[tuple[str, Values]], *, left_out: Iterable[str] = ()
    ) -> Imported:
        """Write a job of records, each with its place; one that cannot be used is skipped.

        Args:
            left_out: what the file says beside its records.

        Raises:
            InvalidEdit: if none can be used, or another job is in the folder for it.
        """
        found, skipped = _Found(self, _unused=dict.fromkeys(left_out)), []
        for place, values in records:
            try:
                if isinstance(values, InvalidEdit):
                    raise values
                found.add(place, _by_key(values))
            except InvalidEdit as error:
                skipped.append(f"{place}: {error}")
            except OSError as error:
                raise cannot_write(self.out, error) from error
        if not found.lines:
            why = skipped[0] if skipped else "it is empty"
            raise InvalidEdit(f"{self.path} has no edit that can be imported: {why}")
        root = self.out if found.holds_pictures else self.images
        job = write_job(root, self.out, found.lines, follow_links=self.follow_links)
        return Imported.of(job, found.lines, skipped, [*found.notes, *unfinished(found.lines)])


@dataclass
class _Found:
    """The edits of the records so far."""

    source: Manifest
    lines: list[Line] = field(default_factory=list)
    holds_pictures: bool | None = None
    """Whether the records hold the pictures themselves, not the names of files."""
    _ids: Ids = field(default_factory=Ids)
    _by_id: dict[str, tuple[str, Line]] = field(default_factory=dict)
    _renamed: dict[str, str] = field(default_factory=dict)
    _unused: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> Iterator[str]:
        """What was changed or left out."""
        if self._unused:
            yield f"not used: {', '.join(self._unused):.300}"
        for old, new in [*self._renamed.items()][:1]:
            many = f", and {len(self._renamed) - 1} more" if len(self._renamed) > 1 else ""
            yield f"ids that cannot be used, or are there twice, changed: {old!r} to {new!r}{many}"

    def add(self, place: str, given: Mapping[str, Any]) -> None:
        """Take in a record.

        Raises:
            InvalidEdit: if it is no edit, or differs from an earlier record of the same id.
            OSError: if a picture cannot be written.
        """
        named = {key: _called(key, given) for key in NAMES}
        if given.get("mask_of") == OF_METHOD:  # it was made, and would be made again
            named["mask"] = None
        values = {key: given[name] for key, name in named.items() if name}
        drags, by = drags_of(given)
        used = {*by, *named.values()}
        unused = [key for key in given if key not in used and not is_nothing(given[key])]
        self._unused |= dict.fromkeys((*unused, *keys_beside_ends(given, by)))
        own = _id(values.get("id", ""))
        earlier = self._by_id.get(own) if self.source.is_table else None
        if "image" not in values and earlier is None:
            raise InvalidEdit(f"it has no image: call it {NAMES['image'][0]!r}")
        line = self._line(values) | {"drags": drags}
        if earlier is not None:
            self._extend(own, *earlier, line)
            return
        name = self._ids.claim(own or _file_name(values["image"]) or place)
        if own and own != name:
            self._renamed[own] = name
        for key, folder in (("image", IMAGE_FOLDER), ("mask", MASK_FOLDER)):
            if isinstance(data := line.get(key), bytes):
                line[key] = write_picture(self.source.out, f"{folder}/{name}", data)
        self.lines.append({"id": name, **line})
        if own:
            self._by_id[own] = place, self.lines[-1]

    def _extend(self, own: str, place: str, before: Line, line: Line) -> None:
        """Add the drags of a further row of an edit."""
        for key in ("image", "prompt", "mask", "tags", "settings", "scene"):
            value, first = line.get(key), before.get(key)
            if isinstance(value, bytes) and first:  # it was written as a file
                first = (self.source.out / first).read_bytes()
            if value and value != first:
                raise InvalidEdit(f"id {own!r} has another {key} than in {place}: use another id")
        before["drags"] += line["drags"]

    def _line(self, values: Mapping[str, Any]) -> Line:
        files = {key: self._file(key, values[key]) for key in ("image", "mask") if key in values}
        tables = {key: _table(key, values[key]) for key in ("settings", "scene") if key in values}
        tags = _tags(values["tags"]) if "tags" in values else []
        more = {"tags": tags, **tables}
        return {
            **files,
            "prompt": prompt_of(values.get("prompt", "")),
            **{key: value for key, value in more.items() if value},
        }

    def _file(self, key: str, value: Any) -> str | bytes:
        """Return the name of a file, relative to the folder of images, or a picture's bytes."""
        if isinstance(value, Mapping):  # as datasets of the hub have pictures
            value = value.get("bytes") or value.get("path")
        if not isinstance(value, str | bytes) or not value:
            raise InvalidEdit(f"{key} is {type(value).__name__}, not the name of a file")
        is_picture = isinstance(value, bytes)
        if self.holds_pictures not in (None, is_picture):
            raise InvalidEdit(f"{key}: pictures and names of files are mixed: give either")
        self.holds_pictures = is_picture
        return value if isinstance(value, bytes) else self._located(value)

    def _located(self, name: str) -> str:
        images = self.source.images
        slashed = name.replace("\\", "/")
        if slashed != name and (images / slashed).exists():
            name = slashed
        path = locate(images, name, follow_links=self.source.follow_links)
        return path.relative_to(images.resolve()).as_posix()


def _by_key(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record by its keys as they are compared, of which there is one each."""
    if not values:
        raise InvalidEdit("it is empty")
    names: dict[str, str] = {}
    for name in values:
        first = names.setdefault(_key(name), name)
        if first != name:
            raise InvalidEdit(f"{first!r:.60} and {name!r:.60} are one name: rename one of them")
    return {key: values[name] for key, name in names.items()}


def _key(name: object) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def _called(key: str, given: Mapping[str, Any]) -> str | None:
    """Return what a record calls a key of the edits file, if it has a value."""
    return next((name for name in NAMES[key] if not is_nothing(given.get(name))), None)


def _id(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidEdit(f"id is {type(value).__name__}, not a text")
    return value.strip()


def _file_name(image: Any) -> str:
    """Return the name of an image without its suffix; "" for one of which there are bytes alone."""
    name = image.get("path") if isinstance(image, Mapping) else image
    return Path(name).stem if isinstance(name, str) else ""


def _tags(value: Any) -> list[str]:
    if isinstance(value, str):
        value = _listed(value)
    tags = value if isinstance(value, Sequence) else [value]
    return [str(tag).strip() for tag in tags if not is_nothing(tag)]


def _listed(text: str) -> Sequence[Any]:
    """Return the tags of a text: a list in JSON, or parted by commas or semicolons."""
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, list):
            return found
    return re.split("[;,]", text)


def _table(key: str, value: Any) -> Mapping[str, Any]:
    with_text = isinstance(value, str)
    try:
        table = json.loads(value) if with_text else value
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, Mapping):
        raise InvalidEdit(f"{key} is not an object in JSON")
    return table
