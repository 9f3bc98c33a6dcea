"""Finding the files that a dataset names, and nothing outside its folder."""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from adaptivedrag.errors import InvalidEdit
from artifacts import StatCache
from stages.jobs.absent import broken_link, remedy, spellings

_SHOWN = 80
_LONGEST = 1000


def locate(root: Path, name: str, *, follow_links: bool = False) -> Path:
    """Return the file called `name` under `root`.

    Args:
        follow_links: take files that are links out of `root`, under their own names.

    Raises:
        InvalidEdit: if it is missing, is no regular file, or lies outside `root`.
    """
    root, shown = root.resolve(), repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")
    try:
        path = _find(root, name, follow_links)
        inside = path.is_relative_to(root)
        mode = path.stat().st_mode if inside else 0
    except FileNotFoundError:
        raise InvalidEdit(f"{shown} does not exist in {root}: {remedy(root, name)}") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidEdit(
            f"{shown} cannot be opened in {root} ({reason}): correct the path"
        ) from None
    if not inside:
        raise InvalidEdit(f"{shown} lies outside {root}: {_way_in(root, name)}")
    if not stat.S_ISREG(mode):
        raise InvalidEdit(f"{shown} is not a regular file: name an image file")
    return path


def _find(root: Path, name: str, follow_links: bool) -> Path:
    """Return the path of a name, in the spelling in which it is there."""
    first, *others = (root / spelled for spelled in spellings(name))
    path = next((path for path in (first, *others) if path.exists()), first) if others else first
    return Path(os.path.normpath(path)) if follow_links else path.resolve()


def _way_in(root: Path, name: str) -> str:
    """Say what to do about a path that leads out of `root`: itself, or by a link."""
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(root):
        return "move the file there or set image_root or mask_root"
    if why := broken_link(path):
        return why
    return (
        "it is a link; follow_links = true in the job file (--follow-links of `import`) takes "
        "it, or move the file there"
    )


@dataclass(frozen=True)
class ImageFolder:
    """Finds the files of one folder as `locate` does, at a fraction of the cost for the many
    names that are neither links nor odd: each folder on the way is resolved once.
    """

    root: Path
    follow_links: bool = False
    _folders: dict[str, str | None] = field(default_factory=dict)

    def recall(self, names: Iterable[object], kind: str, cache: StatCache) -> None:
        """Let the cache read in one go what it knows of files that will be asked for by name."""
        folder = self._folders.setdefault("", self._resolved(""))
        usual = {name for name in names if isinstance(name, str) and len(name) <= _LONGEST}
        if folder and usual:
            cache.recall((f"{folder}/{name}" for name in usual), kind)

    def locate(self, name: str) -> Path:
        """Return the file of that name; see `locate`."""
        above, slash, leaf = name.rpartition("/")
        if slash and not above:
            return self._locate(name)
        if above not in self._folders:
            self._folders[above] = self._resolved(above)
        folder = self._folders[above]
        if folder is not None and leaf not in ("", ".", ".."):
            path = f"{folder}/{leaf}"
            with suppress(OSError, ValueError):  # `locate` says what is wrong
                if stat.S_ISREG(os.lstat(path).st_mode):
                    return Path(path)
        return self._locate(name)

    def _locate(self, name: str) -> Path:
        return locate(self.root, name, follow_links=self.follow_links)

    def _resolved(self, name: str) -> str | None:
        try:
            root, folder = self.root.resolve(), (self.root / name).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return str(folder) if folder.is_relative_to(root) else None
