"""Where the parts of a model are read from: the folders of diffusers' layout, or something else.

Importing this module loads no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from adaptivedrag.model.parts import Part
from adaptivedrag.model.tensors import Tensors


@dataclass(frozen=True)
class PartFiles:
    """What a part of a model is made of."""

    folder: Path
    """Holds its settings."""
    tensors: Tensors | None = field(hash=False)
    """Its weights; None for a part without any."""
    files: Mapping[str, Path] = field(hash=False)
    """All files that are read, by names that say what they are for and not where they lie."""


class Source(Protocol):
    """Where the parts of a model are read from."""

    @property
    def path(self) -> Path:
        """What the model is called in messages."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user may not expect."""
        ...

    def settings(self, name: str) -> Path:
        """Return the folder of a part's settings."""
        ...

    def part(self, name: str, part: Part) -> PartFiles:
        """Find the files of a part.

        Raises:
            ModelUnavailable: if the source has no such part, or files that cannot be read.
        """
        ...


@dataclass(frozen=True)
class Folder:
    """A model in diffusers' layout: a folder for each part."""

    path: Path
    notes: tuple[str, ...] = ()

    def settings(self, name: str) -> Path:
        """Return the folder of a part; see `Source`."""
        return self.path / name

    def part(self, name: str, part: Part) -> PartFiles:
        """Find the files of a part; see `Source`."""
        folder = self.settings(name)
        files = {f"{name}/{path.name}": path for path in part.files(folder)}
        return PartFiles(folder, part.tensors(folder), files)
