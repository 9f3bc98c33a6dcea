"""How many pixels a picture may have; known without loading anything that decodes."""

from pathlib import Path

from adaptivedrag.errors import InvalidEdit

PIXEL_LIMIT = 64_000_000
"""The limit where the setting `pixel_limit` is not given."""
LARGEST_LIMIT = 1_000_000_000


def refuse_large(path: Path, pixels: int, pixel_limit: int) -> None:
    """Check the size of a picture by its header.

    Raises:
        InvalidEdit: if it has more than `pixel_limit` pixels.
    """
    if pixels > pixel_limit:
        raised = f"set pixel_limit = {pixels}, or " if pixels <= LARGEST_LIMIT else ""
        raise InvalidEdit(
            f"{path} has {pixels / 1e6:,.1f} million pixels, and the limit is "
            f"{pixel_limit / 1e6:g} million: {raised}shrink it, with its points"
        )
