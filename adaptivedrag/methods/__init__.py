"""The drag methods: each moves the handles, in inverted latents or in the picture.

A method is one file here and one line in `METHODS`. Importing a method loads no torch.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from adaptivedrag.methods.alternation import Alternation
from adaptivedrag.methods.method import DragMethod, LatentMethod, PictureMethod
from adaptivedrag.methods.optimization import Optimization
from adaptivedrag.methods.warp import Warp

__all__ = [
    "METHODS",
    "Alternation",
    "AnyMethod",
    "DragMethod",
    "LatentMethod",
    "Optimization",
    "PictureMethod",
    "Warp",
    "settings_of_others",
]

METHODS: dict[str, type[DragMethod]] = {
    "optimization": Optimization,
    "alternation": Alternation,
    "warp": Warp,
}

DEFAULT_METHOD = "optimization"


def _read(value: Any) -> Any:
    """Read settings as those of the method that they name; the paper's if they name none."""
    if not isinstance(value, dict):
        return value
    if complaints := list(_complaints(value)):
        raise ValidationError.from_exception_data("DragMethod", complaints)
    return METHODS[value.get("method", DEFAULT_METHOD)].model_validate(value)


def _complaints(value: dict[Any, Any]) -> Iterator[InitErrorDetails]:
    name = value.get("method", DEFAULT_METHOD)
    if not isinstance(name, str) or name not in METHODS:
        yield _complaint("method", name, f"choose {' or '.join(METHODS)}")
        return
    known = [setting for setting in METHODS[name].model_fields if setting != "method"]
    for key in value:
        if key not in (*known, "method"):
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            yield _complaint(key, value[key], f"the method {name!r} has no such setting; {hint}")


def _complaint(key: Any, value: Any, message: str) -> InitErrorDetails:
    kind = PydanticCustomError("drag_method", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=(key,), input=value)


def settings_of_others(settings: Mapping[str, Any], method: str) -> tuple[str, ...]:
    """Name the settings that other methods have and `method` lacks; none if they name a method."""
    if "method" in settings:
        return ()
    others = {name for each in METHODS.values() for name in each.model_fields}
    return tuple(name for name in settings if name in others - METHODS[method].model_fields.keys())


AnyMethod = Annotated[SerializeAsAny[DragMethod], BeforeValidator(_read)]
"""A field for the settings of any drag method, named by its key `method`."""
