"""What to do about the failures of places, by what their messages say."""

from __future__ import annotations

import re

_REMEDIES = {
    r"Permission denied|Operation not permitted": (
        "to share a folder, its owner lets the group write with "
        "`chmod -R g+rwX FOLDER; find FOLDER -type d -exec chmod g+s {} +`"
    ),
}


def remedy(message: str) -> str:
    """Return what to do about an error as the end of its line; "" if nothing is known."""
    for pattern, what in _REMEDIES.items():
        if re.search(pattern, message):
            return f"; {what}"
    return ""
