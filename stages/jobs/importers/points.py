"""Drags as people and tools write them, as handles and targets in pixels (x, y)."""

import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from adaptivedrag.errors import InvalidEdit

DragLine: TypeAlias = dict[str, list[float]]
"""A drag as the edits file has it."""

LARGEST_COORDINATE = 1_000_000
LISTS = ("drags", "points")
"""Keys of a list of drags, or of points that are handle and target in turn."""
ENDS = (
    ("handle", "target"),
    ("handles", "targets"),
    ("handle_points", "target_points"),
    ("handle_point", "target_point"),
    ("source", "target"),
    ("sources", "targets"),
    ("source_points", "target_points"),
    ("source_point", "target_point"),
    ("start", "end"),
    ("start_points", "end_points"),
    ("from", "to"),
    ("src", "dst"),
)
"""Keys of the two ends of a drag, or of lists of them."""
COLUMNS = (
    *((f"{a}_x", f"{a}_y", f"{b}_x", f"{b}_y") for a, b in ENDS),
    ("hx", "hy", "tx", "ty"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
)
"""Columns of one drag."""

_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)")
_ARROW = re.compile(r"\s*(?:->|→)\s*")


def drags_of(given: Mapping[str, Any]) -> tuple[list[DragLine], tuple[str, ...]]:
    """Return the drags of a record, and the keys that give them; none if those are empty.

    Raises:
        InvalidEdit: if there is no such key, or no drag can be read.
    """
    for key in LISTS:
        if key in given:
            return _drags(_unpacked(given[key])), (key,)
    for ends in ENDS:
        if all(key in given for key in ends):
            return _paired(*(_unpacked(given[key]) for key in ends)), ends
    for columns in COLUMNS:
        if all(key in given for key in columns):
            return _of_columns(columns, [given[key] for key in columns]), columns
    raise InvalidEdit(
        f"it has {', '.join(given):.200}, and no drag: give handle_x, handle_y, target_x and "
        "target_y, or points, a list of handle and target in turn"
    )


def in_turn(points: Sequence[Any]) -> list[DragLine]:
    """Pair up a flat list handle, target, handle, target, …

    Raises:
        InvalidEdit: if it is not such a list.
    """
    # Before any value is read: a list may hold one long list thousands of times.
    if not len(points) or len(points) % 2 or any(not _is_point(point) for point in points):
        raise InvalidEdit("points are not pairs of handle and target (x, y)")
    read = [_point(point) for point in points]
    return [_drag(*ends) for ends in zip(read[::2], read[1::2], strict=True)]


def _drags(values: Any) -> list[DragLine]:
    if is_nothing(values):
        return []
    if isinstance(values, str):
        return [_of_arrow(text) for text in values.split(";") if text.strip()]
    if isinstance(values, Mapping):
        return [_of_mapping(values)]
    if not isinstance(values, Sequence):
        raise InvalidEdit(f"drags are {type(values).__name__}, not a list")
    if all(map(_is_point, values)):
        return in_turn(values)
    if all(map(_is_number, values)):
        return in_turn([values[at : at + 2] for at in range(0, len(values), 2)])
    return [_one(value) for value in values]


def _one(value: Any) -> DragLine:
    """Read a drag that is an item of a list."""
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if isinstance(value, str):
        return _of_arrow(value)
    if _is_list(value) and len(value) == 4:
        return _drag(_point(value[:2]), _point(value[2:]))
    if _is_list(value) and len(value) == 2:
        return _drag(_point(value[0]), _point(value[1]))
    raise InvalidEdit(f"{str(value)[:60]} is not a drag: give its handle and its target")


def _of_mapping(value: Mapping[str, Any]) -> DragLine:
    named = {str(key).lower(): each for key, each in value.items()}
    found = [named[name] for name in _ends_in(named)]
    if len(found) == 2:
        return _drag(*map(_point, found))
    if len(found) == 4:
        x, y, to_x, to_y = map(coordinate, found)
        return _drag([x, y], [to_x, to_y])
    raise InvalidEdit(f"{str(value)[:60]} is not a drag: give its handle and its target")


def _ends_in(keys: Container[str]) -> tuple[str, ...]:
    """Return the keys, of those of a drag, that give its ends; none if there are no such keys."""
    return next((names for names in (*ENDS, *COLUMNS) if all(map(keys.__contains__, names))), ())


def keys_beside_ends(given: Mapping[str, Any], used: Sequence[str]) -> Iterator[str]:
    """Yield what the drags of a record, by the keys that give them, say beside their ends."""
    for name in set(used) & set(LISTS):
        drags = _unpacked(given[name])
        for drag in drags if _is_list(drags) else [drags]:
            if isinstance(drag, Mapping):
                keys = [str(key).lower() for key in drag]
                known = {*_ends_in(keys), "x", "y"}
                yield from (f"{name}[].{key}" for key in keys if key not in known)


def _of_arrow(text: str) -> DragLine:
    """Read a drag as the command line takes it, such as "12,34->56,78"."""
    ends = _ARROW.split(text.strip())
    if len(ends) != 2:
        raise InvalidEdit(f"{text[:60]!r} is not a drag: write X,Y->X,Y")
    return _drag(*(_point(end.strip(" ()[]").split(",")) for end in ends))


def _paired(handles: Any, targets: Any) -> list[DragLine]:
    if is_nothing(handles) and is_nothing(targets):
        return []
    if _is_point(handles) and _is_point(targets):
        return [_drag(_point(handles), _point(targets))]
    if not _is_list(handles) or not _is_list(targets) or len(handles) != len(targets):
        raise InvalidEdit("handles and targets are not two lists of points (x, y) of one length")
    pairs = zip(handles, targets, strict=True)
    return [_drag(_point(handle), _point(target)) for handle, target in pairs]


def _of_columns(names: Sequence[str], cells: Sequence[Any]) -> list[DragLine]:
    if all(map(is_nothing, cells)):
        return []
    if missing := [name for name, cell in zip(names, cells, strict=True) if is_nothing(cell)]:
        raise InvalidEdit(f"{missing[0]} is empty: fill it in, or leave all four empty")
    x, y, to_x, to_y = map(coordinate, cells)
    return [_drag([x, y], [to_x, to_y])]


def _drag(handle: list[float], target: list[float]) -> DragLine:
    return {"handle": handle, "target": target}


def _point(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        named = {str(key).lower(): each for key, each in value.items()}
        value = [named.get("x"), named.get("y")]
    if not _is_list(value) or len(value) != 2:
        raise InvalidEdit(f"{str(value)[:60]} is not a point (x, y)")
    return [coordinate(each) for each in value]


def coordinate(value: object) -> int | float:
    """Read a number of pixels; texts may have a decimal comma, where it can be nothing else.

    Raises:
        InvalidEdit: if it is no number, or beyond any image.
    """
    if isinstance(value, np.number):
        value = value.item()
    if isinstance(value, str):
        value = _number(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidEdit(f"a {type(value).__name__} is not a coordinate")
    if not abs(value) <= LARGEST_COORDINATE:
        raise InvalidEdit(f"a number beyond {LARGEST_COORDINATE} is not a coordinate")
    return value


def _number(text: str) -> int | float:
    if comma := _DECIMAL_COMMA.fullmatch(text):
        if len(comma[2]) == 3:
            raise InvalidEdit(
                f"{text!r} is {comma[1]}.{comma[2]} or {comma[1]}{comma[2]}: write it without comma"
            )
        text = f"{comma[1]}.{comma[2]}"
    try:
        value = float(text)
    except ValueError:
        raise InvalidEdit(f"{text[:60]!r} is not a coordinate: write a number of pixels") from None
    return int(value) if value.is_integer() and abs(value) <= LARGEST_COORDINATE else value


def _unpacked(value: Any) -> Any:
    """Read the JSON that a cell of a table may hold."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, str) and value.strip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidEdit(f"{value[:60]!r} is not a list in JSON") from None
    return value


def is_nothing(value: Any) -> bool:
    """Tell whether a value stands for none: null, NaN as pandas writes it, or an empty one."""
    if isinstance(value, str):
        return not value.strip()
    is_empty = isinstance(value, bytes | Sequence | Mapping) and not value
    return value is None or is_empty or (isinstance(value, float) and value != value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _is_point(value: Any) -> bool:
    if isinstance(value, Mapping):
        return {"x", "y"} <= {str(key).lower() for key in value}
    is_flat = _is_list(value) and not any(
        _is_list(each) or isinstance(each, Mapping) for each in value
    )
    return is_flat and len(value) == 2
