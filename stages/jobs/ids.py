"""Ids that name files: made of whatever people call their edits, and each once."""

import re
import unicodedata

_LONGEST = 120


def legal_id(text: str) -> str:
    """Make an id of a text: accents go, and what may not be in an id becomes "_"."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9._-]+", "_", plain).lstrip(".")[:_LONGEST] or "edit"


class Ids:
    """Legal ids, of which no two differ by case alone: results are files named by them."""

    def __init__(self) -> None:
        """Begin without any."""
        self._taken: set[str] = set()

    def claim(self, text: str) -> str:
        """Return a legal id for a text that no earlier one has."""
        wanted = name = legal_id(text)
        number = 1
        while name.lower() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken.add(name.lower())
        return name
