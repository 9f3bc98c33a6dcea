"""Tables that a command writes between the marks of a document."""

from collections.abc import Sequence

MARKS = "<!-- tables -->", "<!-- end of tables -->"


def written(document: str, rows: Sequence[str]) -> str:
    """Put rows between the marks of a document."""
    before, rest = document.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return "\n".join([before + MARKS[0], "", *rows, "", MARKS[1] + after])
