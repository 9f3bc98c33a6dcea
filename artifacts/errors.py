"""What can go wrong with a store.

ArtifactError
  StoreUnavailable (OSError)   the store cannot be opened, read or written
    StoreAbsent                there is none yet
  ArtifactCorrupt              stored bytes are not the bytes that were published
"""

from __future__ import annotations


class ArtifactError(Exception):
    """Root of this package's errors."""


class StoreUnavailable(ArtifactError, OSError):
    """The store cannot be opened, read or written; trying again later may help."""


class StoreAbsent(StoreUnavailable):
    """There seems to be no store at this place."""


class ArtifactCorrupt(ArtifactError):
    """A stored file is missing, changed or not of a form that we write; the message names it."""
