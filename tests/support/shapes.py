"""Shapes and dtypes in the annotations of the method, held by every call while tests run."""

import typing
from collections.abc import Callable, Iterator

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook


def check_shapes_of(package: str) -> None:
    """Have beartype check the shapes of a package in all of its modules imported from now on."""
    install_import_hook(package, "support.shapes.checked")


def checked(function: Callable) -> Callable:
    """Have beartype check those annotations of a function that name a shape."""
    hints = function.__annotations__.items()
    function.__annotations__ = {name: hint for name, hint in hints if _is_checkable(hint)}
    return beartype(function)


def _is_checkable(hint: object) -> bool:
    """Tell whether a hint names a shape, and no name that is imported for type checkers alone."""
    leaves = list(_leaves(hint))
    names_shape = any(isinstance(leaf, type) and issubclass(leaf, AbstractArray) for leaf in leaves)
    return names_shape and not any(isinstance(leaf, str | typing.ForwardRef) for leaf in leaves)


def _leaves(hint: object) -> Iterator[object]:
    """Yield what a hint is made of; the parameters of a `Callable` are in a list."""
    parts = hint if isinstance(hint, list) else typing.get_args(hint)
    if not parts:
        yield hint
    for part in parts:
        yield from _leaves(part)
