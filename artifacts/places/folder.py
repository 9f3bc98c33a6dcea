"""Writes files into a local folder, whole or not at all, on whatever file system it lies.

Where links are refused (exFAT, SMB, many FUSE file systems), a new file is written under its own
name, with `O_EXCL`: still only one writer wins. A writer that is killed meanwhile leaves a file
that cannot be read, which readers pass over, since everything that we write has a checksum.

Whoever may read or write the folder may do so with all that is written into it, whatever the
writer's umask is.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED = re.compile(r".+#[0-9]+")
"""Names of files that get their own names once they are whole."""

_TRIES = 10
_NOT_OVER_A_FILE = {
    errno.EACCES,
    errno.EBUSY,
    errno.EEXIST,
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EPERM,
}
"""What file systems answer that do not rename, or not over a file."""
_NO_SYNC = {errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
"""What file systems answer that sync no folders, or nothing."""


def make_root(root: Path) -> None:
    """Make a folder; in one that passes its group on, all rights of the group are passed on too."""
    if root.is_dir():
        return
    if root.parent != root:
        make_root(root.parent)
    with suppress(FileExistsError):
        root.mkdir()
        if root.parent.stat().st_mode & stat.S_ISGID:
            _share(root.parent, root)
    if not root.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, not a folder", str(root))


def write(root: Path, path: str, data: bytes, *, lasting: bool = False) -> None:
    """Write a file, over an older one if there is one.

    Args:
        lasting: sync it before it gets its name.
    """
    target = root / path
    with _unfinished(root, target, data, lasting) as unfinished:
        try:
            unfinished.replace(target)
        except OSError as error:
            if error.errno not in _NOT_OVER_A_FILE:
                raise
            target.unlink(missing_ok=True)
            _write_exclusively(root, target, data)


def write_new(root: Path, path: str, data: bytes) -> bool:
    """Write a file if none is there; return whether it was written. One writer wins."""
    target = root / path
    with _unfinished(root, target, data) as unfinished:
        try:
            os.link(unfinished, target)
        except FileExistsError:
            return False
        except OSError:  # no links here, or no room: the second way shows which
            return _write_exclusively(root, target, data)
    return True


def append(root: Path, path: str, data: bytes) -> None:
    """Add to a file of the folder itself; make it if there is none."""
    with (root / path).open("ab") as file:
        _share(root, file.fileno())
        file.write(data)


def sync(path: Path) -> None:
    """Make a file or the names in a folder survive a power loss, where the file system can."""
    number = os.open(path, os.O_RDONLY)
    try:
        _sync(number)
    finally:
        os.close(number)


@contextmanager
def _unfinished(root: Path, target: Path, data: bytes, lasting: bool = False) -> Iterator[Path]:
    """Write a file beside its target, and delete it in the end if it is still there."""
    path = target.with_name(f"unfinished#{secrets.randbelow(10**15)}")
    try:
        with _new_file(root, path) as file:
            file.write(data)
            if lasting:
                file.flush()
                _sync(file.fileno())
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _sync(number: int) -> None:
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _write_exclusively(root: Path, target: Path, data: bytes) -> bool:
    try:
        file = _new_file(root, target)
    except FileExistsError:
        return False
    try:
        with file:
            file.write(data)
    except OSError:
        target.unlink(missing_ok=True)
        raise
    return True


def _new_file(root: Path, path: Path) -> BinaryIO:
    """Open a file that is not there yet; a collector may delete its folder while it is made."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            file = path.open("xb")
            _share(root, file.fileno())
            return file
        with suppress(FileNotFoundError):
            _make_folders(root, path.parent)
    return path.open("xb")


def _make_folders(root: Path, folder: Path) -> None:
    if folder.is_dir():
        return
    if folder != root:
        _make_folders(root, folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
        _share(root, folder)


def _share(root: Path, made: Path | int) -> None:
    """Give a file or folder the group of the root folder, and the rights of group and others.

    Rights are left alone where they would go to another group. A sticky folder, such as /tmp, lets
    others make files, not write to those that are there.
    """
    above, own = os.stat(root), os.stat(made)
    is_folder = stat.S_ISDIR(own.st_mode)
    others = above.st_mode & (0o055 if above.st_mode & stat.S_ISVTX else 0o077)
    passed_on = others | above.st_mode & stat.S_ISGID if is_folder else others & 0o066
    mode = stat.S_IMODE(own.st_mode) & 0o700 | passed_on
    with suppress(OSError):  # not a file system with groups and rights, or another user's file
        if own.st_gid != above.st_gid:
            os.chown(made, -1, above.st_gid)
        if mode != stat.S_IMODE(own.st_mode):
            os.chmod(made, mode)
