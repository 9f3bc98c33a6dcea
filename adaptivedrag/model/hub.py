"""Repositories of the Hugging Face hub: resolved to a commit once, fetched whole, and kept so.

The commit and the list of files are written beside the hub's files of that repository, in the hub's
own cache. Later calls read that and ask nobody: a branch that moves changes nothing, and files that
are not all there are fetched of the same commit, or the repository is refused.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from adaptivedrag.errors import ModelUnavailable

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
TIMEOUT = 20.0
"""Seconds that the hub has to answer."""
_COMMIT = re.compile(r"[0-9a-f]{40}")

Choose = Callable[[Collection[str]], Collection[str]]
"""Takes the names of a repository's files; returns those that are needed.

Raises ValueError where some of what is needed is not among them.
"""


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, and where its files are on this machine."""

    name: str
    """As in owner/name."""
    revision: str
    """A branch, a tag or a commit."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read "owner/name" or "owner/name@revision"; None for anything else."""
        found = _NAME.fullmatch(text)
        return cls(found[1], found[2] or "main") if found else None

    @property
    def folder(self) -> Path:
        """The folder of its snapshots in the hub's cache."""
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE) / f"models--{self.name.replace('/', '--')}"

    @property
    def kept(self) -> Path:
        """The file that says which commit was resolved to, and which of its files are needed."""
        return self.folder / "adaptivedrag" / f"{quote(self.revision, safe='')}.json"

    @property
    def local_commit(self) -> str | None:
        """The commit that another program fetched of this revision, if one did."""
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        with suppress(OSError, ValueError):
            found = (self.folder / "refs" / self.revision).read_text("utf-8").strip()
            return found if _COMMIT.fullmatch(found) else None
        return None


@dataclass(frozen=True)
class Listing:
    """The files that are needed of a commit."""

    commit: str
    files: tuple[str, ...]
    """Empty where the hub was never asked, since all was here that a model needs."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read what `write` wrote; None for a file that is not there or not whole."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_text("utf-8"))
            if _COMMIT.fullmatch(found["commit"]):
                return cls(found["commit"], tuple(map(str, found["files"])))
        return None

    def write(self, path: Path) -> None:
        """Write it at once or not at all; a cache that cannot be written is nobody's to change."""
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{path.name}.{os.getpid()}")
            text = json.dumps({"commit": self.commit, "files": self.files}, indent=1)
            unfinished.write_text(text, "utf-8")
            unfinished.replace(path)

    def missing(self, snapshot: Path) -> list[str]:
        """Return the files that are not in a snapshot."""
        return [name for name in self.files if not (snapshot / name).is_file()]


def fetched(text: str, choose: Choose) -> Path:
    """Return the folder of a repository's files at the commit that it was first resolved to.

    The hub is asked where it was never asked for the files of that commit, or some are missing.

    Raises:
        ModelUnavailable: in one line: what is missing, and how to get it.
    """
    repository = Repository.parse(text)
    if repository is None:
        raise ModelUnavailable(f"{text!r} is no hub id like owner/name or owner/name@revision")
    kept = Listing.read(repository.kept)
    commit = kept.commit if kept else repository.local_commit
    try:
        listing = kept if kept and kept.files else _asked(repository, commit, choose)
    except _OutOfReach as reason:
        listing = _found_here(repository, commit, choose, reason)
    snapshot = repository.folder / "snapshots" / listing.commit
    if missing := listing.missing(snapshot):
        _download(repository, listing, missing)
    if listing != kept:
        listing.write(repository.kept)
    return snapshot


class _OutOfReach(Exception):
    """The hub does not answer, or nobody may ask it; says why."""


@contextmanager
def _asking(repository: Repository) -> Iterator[None]:
    """Turn errors of the hub into ours.

    Raises:
        ModelUnavailable: if the hub refuses.
        _OutOfReach: if it does not answer.
    """
    from httpx import HTTPError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    name, revision = repository.name, repository.revision
    try:
        yield
    except GatedRepoError as error:
        raise ModelUnavailable(
            f"the owner of {name} wants to know who fetches it: accept the terms on its page, then "
            "`hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailable(
            f"the hub has no {name} that this user may read: check the id, or `hf auth login`"
        ) from error
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        if getattr(getattr(error, "response", None), "status_code", 500) == 404:
            raise ModelUnavailable(
                f"the hub's {name} has no revision {revision!r}, or not all of its files: check "
                "what follows the @"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _OutOfReach(f"{reason:.200}") from error


def _asked(repository: Repository, commit: str | None, choose: Choose) -> Listing:
    """Ask the hub for the files of a commit, and for the commit too unless it is known here."""
    from huggingface_hub import HfApi

    revision = commit or repository.revision
    with _asking(repository):
        found = HfApi().model_info(repository.name, revision=revision, timeout=TIMEOUT)
    names = [each.rfilename for each in found.siblings or ()]
    try:
        return Listing(commit or found.sha or revision, tuple(sorted(choose(names))))
    except ValueError as error:
        raise ModelUnavailable(f"{repository.name} on the hub: {error}") from None


def _download(repository: Repository, listing: Listing, missing: Collection[str]) -> None:
    from huggingface_hub import hf_hub_download

    try:
        with _asking(repository):
            for name in missing:
                hf_hub_download(repository.name, name, revision=listing.commit)
    except _OutOfReach as reason:
        raise ModelUnavailable(
            f"{', '.join(sorted(missing)[:3])} of {repository.name} ({len(missing)} of "
            f"{len(listing.files)} files) are not here and could not be fetched ({reason}): "
            f"`hf download {repository.name} --revision {listing.commit}` where there is a network"
        ) from reason


def _found_here(
    repository: Repository, commit: str | None, choose: Choose, reason: Exception
) -> Listing:
    """Check that all that is needed of a commit was fetched by another program."""
    name = repository.name
    remedy = f"`hf download {name}` where there is a network, or name a folder with its files"
    if commit is None:
        raise ModelUnavailable(
            f"{name} was never fetched, and the hub does not answer ({reason}): {remedy}"
        ) from reason
    snapshot = repository.folder / "snapshots" / commit
    there = (path for path in snapshot.rglob("*") if path.is_file())
    try:
        choose([path.relative_to(snapshot).as_posix() for path in there])
    except ValueError as error:
        raise ModelUnavailable(
            f"{name} is not all here ({error}), and the hub does not answer ({reason}): {remedy}"
        ) from None
    return Listing(commit, ())
