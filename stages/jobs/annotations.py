"""A job whose edits are written on a page: its pictures, its edits, its painted masks.

Nothing but the folder of a job is made until something is saved, and then whole or not at all. What
others write into the same files meanwhile is kept; see `stages.jobs.edits_file`.
"""

import fcntl
import io
import os
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from adaptivedrag.errors import InvalidEdit
from artifacts import Digest, StatCache
from artifacts.places import folder as local
from stages.jobs.complaints import one_line
from stages.jobs.edit import BadEdit, Edit
from stages.jobs.edits_file import FIELDS, Change, Conflict, Fields, Line, Merged, lines_of, merge
from stages.jobs.ids import legal_id
from stages.jobs.image_files import ImageInfo, inspect_image, inspect_mask
from stages.jobs.image_folder import locate
from stages.jobs.importers.folder import pictures_in
from stages.jobs.importers.writer import MASK_FOLDER
from stages.jobs.reader import check_lines, read_settings
from stages.jobs.spec import EDITS_FILE, JobSpec, parse_spec
from stages.jobs.toml import toml_document

JOB_FILE = "job.toml"
_PATHS = ("image_root", "mask_root", "model", "vae", "segmenter", "lora")
"""Keys of a job that may name what lies beside it."""
_OPAQUE = 128
"""From this opacity on, of 255, a pixel is painted."""


@dataclass(frozen=True)
class Painted:
    """A mask as it was painted on a page.

    Attributes:
        png: a picture of the image's size; what is painted is opaque.
        seen: digest of the mask that was there when painting began; None if there was none.
    """

    png: bytes
    seen: Digest | None


@dataclass(frozen=True)
class Annotations:
    """A job, or one that begins with the first edit that is saved.

    Attributes:
        path: the job file.
        settings: what a job file that is not there yet is to say.
        listed: names of pictures that need no edit to be shown.
        first: the picture to begin with; "" for that of the first edit, or the first of all.
    """

    path: Path
    settings: Mapping[str, Any]
    listed: tuple[str, ...] = ()
    first: str = ""

    @classmethod
    def open(cls, target: Path, out: Path | None = None) -> "Annotations":
        """Open a job, or a picture or a folder of pictures with the job that is beside them.

        Args:
            out: folder of the job, if it is to be another one.

        Raises:
            InvalidEdit: if there is nothing to annotate, or the job's folder cannot be written.
        """
        if target.suffix.lower() == ".toml":
            opened = cls._of_job(target, out)
        elif target.exists():
            opened = cls._of_pictures(target, out)
        else:
            raise InvalidEdit(f"{target} does not exist: name a picture, a folder or a job file")
        opened._refuse_what_cannot_be_written()
        if not opened.images():
            raise InvalidEdit(f"{target} has no picture to annotate")
        local.make_root(opened.path.parent)  # edits are checked in it before they are saved
        return opened

    @classmethod
    def _of_job(cls, path: Path, out: Path | None) -> "Annotations":
        opened = cls(path.absolute(), read_settings(path))
        return opened if out is None else opened._elsewhere(out)

    @classmethod
    def _of_pictures(cls, target: Path, out: Path | None) -> "Annotations":
        root = (target if target.is_dir() else target.parent).resolve()
        folder = root if out is None else out.absolute()
        beside = {"image_root": "."} if out is None else {"image_root": str(root), "mask_root": "."}
        opened = cls(folder / JOB_FILE, {"edits": EDITS_FILE, **beside})
        if not target.is_dir():
            name = opened._name_of(target.absolute())
            return replace(opened, listed=(name,), first=name)
        if out is not None:
            opened._name_of(root / "picture")
        if not opened.image_root.is_relative_to(root):
            return opened  # a dataset elsewhere has more than a job takes of it
        return replace(opened, listed=(*pictures_in(opened.image_root),))

    def _name_of(self, picture: Path) -> str:
        """Return the name of a picture in this job."""
        with suppress(ValueError):
            return picture.relative_to(self.image_root).as_posix()
        raise InvalidEdit(
            f"{self.path} is a job of pictures in {self.image_root}: name another folder with --out"
        )

    def _elsewhere(self, out: Path) -> "Annotations":
        """Return this job in another folder; where none is there yet, its copy."""
        copy = replace(self, path=out.absolute() / JOB_FILE)
        if not copy.path.exists():
            with _writing(copy.path.parent):
                local.write(copy.path.parent, EDITS_FILE, self._edits_bytes(), lasting=True)
                text = toml_document(self._settings_in_full())
                local.write(copy.path.parent, JOB_FILE, text.encode(), lasting=True)
        return copy

    def _settings_in_full(self) -> dict[str, Any]:
        """Return the settings of this job for a job file in another folder."""
        written = tomllib.loads(self.path.read_text("utf-8-sig"))  # with the variants, too
        settings: dict[str, Any] = {"image_root": ".", **written, "edits": EDITS_FILE}
        for key in _PATHS:
            if key in settings and (self.path.parent / settings[key]).exists():
                settings[key] = str((self.path.parent / settings[key]).resolve())
        return settings

    @property
    def spec(self) -> JobSpec:
        """The keys of the job file as it is now.

        Raises:
            InvalidEdit: if it cannot be used.
        """
        return parse_spec(read_settings(self.path) if self.path.exists() else self.settings)

    @property
    def image_root(self) -> Path:
        """The folder that images are in."""
        return (self.path.parent / Path(self.spec.image_root).expanduser()).resolve()

    @property
    def mask_root(self) -> Path:
        """The folder that masks are in, and painted ones are written to."""
        spec = self.spec
        return (self.path.parent / Path(spec.mask_root or spec.image_root).expanduser()).resolve()

    @property
    def edits_path(self) -> Path:
        """The edits file."""
        return (self.path.parent / Path(self.spec.edits).expanduser()).absolute()

    @property
    def unpaintable(self) -> str:
        """Why no mask can be painted; "" if one can."""
        return _unwritable(self.mask_root)

    def lines(self) -> list[Line]:
        """Return the lines of the edits file as it is now."""
        return lines_of(self._edits_bytes())

    def images(self) -> list[str]:
        """Return the names of all pictures, without those that are masks of edits."""
        edits = [line.edit for line in self.lines() if isinstance(line.edit, dict)]
        masks = {str(edit.get("mask")) for edit in edits}
        named = [name for edit in edits if isinstance(name := edit.get("image"), str)]
        listed = [name for name in self.listed if name not in masks]
        return [*dict.fromkeys([*listed, *named])]

    def image(self, name: str) -> tuple[Path, ImageInfo]:
        """Return the file of a picture, and what is known of it.

        Raises:
            InvalidEdit: if there is none of this name, or it cannot be read.
        """
        spec = self.spec
        path = locate(self.image_root, name, follow_links=spec.follow_links)
        return path, inspect_image(path, StatCache(), spec.pixel_limit)

    def check(self, edits: Iterable[Fields]) -> list[Edit | BadEdit]:
        """Check edits as they may come to stand in the file."""
        return check_lines(self.spec, self.path.parent, edits)

    def edit(self, name: str, fields: Fields) -> Edit | BadEdit:
        """Check an edit as it stands on the page; what its line has besides counts too.

        Args:
            name: of its line, if it has one.
        """
        own = next((line.edit for line in self.lines() if line.name == name), {})
        others = {} if isinstance(own, BadEdit) else own
        kept = {key: value for key, value in others.items() if key not in FIELDS}
        (edit,) = self.check([{**kept, **fields}])
        return edit

    def save(self, changes: Sequence[Change], masks: Mapping[str, Painted]) -> Merged:
        """Make changes in the files of the job.

        Args:
            masks: painted ones, by the names in the changes.

        Raises:
            InvalidEdit: if a mask does not fit, or a file cannot be written.
        """
        folder = self.path.parent
        with _writing(folder), _locked(folder):
            data = self._edits_bytes()
            clashes = [
                Conflict(change.name, "mask", f"the mask of {change.name} was changed elsewhere")
                for change in changes
                if change.name in masks and self._mask_changed(change, masks[change.name])
            ]
            left_out = {clash.name for clash in clashes}
            pictures = dict[str, bytes]()
            for number, change in enumerate(changes := [*changes]):
                if change.name in masks and change.name not in left_out and change.after:
                    place = self._mask_place(change, data)
                    pictures[place] = self._mask_png(change.after, masks[change.name])
                    changes[number] = replace(change, after={**change.after, "mask": place})
            merged = merge(data, changes)
            self._write(merged.data, pictures)
        return replace(merged, conflicts=[*clashes, *merged.conflicts])

    def _mask_changed(self, change: Change, painted: Painted) -> bool:
        """Return whether a mask is another one than that over which somebody has painted."""
        return self.mask_digest((change.before or {}).get("mask")) != painted.seen

    def mask_digest(self, name: object) -> Digest | None:
        """Return the digest of a mask; None if there is none that can be read."""
        with suppress(InvalidEdit, OSError):
            if isinstance(name, str):
                path = locate(self.mask_root, name, follow_links=self.spec.follow_links)
                return inspect_mask(path, StatCache(), self.spec.pixel_limit).digest
        return None

    def _mask_place(self, change: Change, data: bytes) -> str:
        """Return where a painted mask goes: over no file that is not this edit's alone."""
        own = (change.before or {}).get("mask")
        masks = [line.edit.get("mask") for line in lines_of(data) if isinstance(line.edit, dict)]
        stem = f"{MASK_FOLDER}/{legal_id(str((change.after or {}).get('id', '')))}"
        names = (f"{stem}{f'-{number}' if number > 1 else ''}.png" for number in count(1))
        return next(
            name
            for name in names
            if (name == own and masks.count(own) == 1) or not os.path.lexists(self.mask_root / name)
        )

    def _mask_png(self, fields: Fields, painted: Painted) -> bytes:
        """Return a painted mask as the PNG of a job: white where the image may change."""
        from PIL import Image

        _, image = self.image(str(fields.get("image")))
        try:
            with Image.open(io.BytesIO(painted.png), formats=["PNG"]) as picture:
                size = picture.size  # of its header
                if size == (image.width, image.height):
                    alpha = picture.convert("RGBA").getchannel("A")
        # Damaged bytes end in errors of many types.
        except Exception as error:
            raise InvalidEdit(f"a painted mask is no PNG: {one_line(error)}") from error
        if size != (image.width, image.height):
            raise InvalidEdit(
                f"a painted mask is {size[0]}x{size[1]} and its image {image.width}x{image.height}"
            )
        encoded = io.BytesIO()
        alpha.point(lambda opacity: 255 * (opacity >= _OPAQUE)).save(encoded, "PNG")
        return encoded.getvalue()

    def _write(self, data: bytes, pictures: Mapping[str, bytes]) -> None:
        """Write the masks, then the edits that name them, then the job that names the edits."""
        for name, png in pictures.items():
            root = self.mask_root
            if not (root / name).parent.resolve().is_relative_to(root):
                raise InvalidEdit(f"{(root / name).parent} is a link out of {root}: remove it")
            local.write(root, name, png, lasting=True)
        edits = self.edits_path.resolve()
        if data != self._edits_bytes():
            local.write(edits.parent, edits.name, data, lasting=True)
        if not self.path.exists():
            local.write_new(self.path.parent, JOB_FILE, toml_document(self.settings).encode())

    def _edits_bytes(self) -> bytes:
        try:
            return self.edits_path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise InvalidEdit(f"{self.edits_path} cannot be read: {error.strerror}") from error

    def _refuse_what_cannot_be_written(self) -> None:
        """Refuse a job in a folder that is read-only, or whose edits are a link out of it."""
        folder, edits = self.path.parent, self.edits_path
        if reason := _unwritable(folder):
            raise InvalidEdit(f"{reason}: name a folder for the job with --out")
        is_link_out = edits.is_relative_to(folder) and not edits.resolve().is_relative_to(
            folder.resolve()
        )
        if is_link_out and not self.spec.follow_links:
            raise InvalidEdit(
                f"{edits} is a link out of {folder}: name a folder for the job with --out"
            )


def _unwritable(folder: Path) -> str:
    """Say why nothing can be written to a folder, or made where it will be; "" if all is well."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return f"{there} cannot be written ({error.strerror})"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make a folder, and say in one line why something in it cannot be written."""
    try:
        local.make_root(folder)
        yield
    except InvalidEdit:
        raise
    except OSError as error:
        raise InvalidEdit(
            f"{folder} cannot be written ({error.strerror}): nothing more is saved"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other pages of this machine from writing in between."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some shared file systems know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
