"""Errors of the method.

AdaptiveDragError
├── InvalidEdit (ValueError)        the request is wrong; found before any model loads
├── ModelUnavailable (OSError)      weights are missing
├── MetricUnavailable (OSError)     a metric's network is missing
├── UnsupportedModel (ValueError)   a model lacks a layer that the method taps
├── DeviceMemoryExhausted (MemoryError)  memory was not enough, even at the lowest rung
└── NotFinite (ArithmeticError)     a loss or a latent is not finite
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class AdaptiveDragError(Exception):
    """Root of the errors that this package raises on purpose."""


class InvalidEdit(AdaptiveDragError, ValueError):
    """An edit cannot be done as it is written; the message says which value and what to do."""


class ModelUnavailable(AdaptiveDragError, OSError):
    """Model weights are missing; the message names the path or id that was tried."""


class MetricUnavailable(AdaptiveDragError, OSError):
    """The weights of a metric are not on this machine; the message says how to get them."""


class UnsupportedModel(AdaptiveDragError, ValueError):
    """A model lacks a module that the method needs; the message names it."""


class DeviceMemoryExhausted(AdaptiveDragError, MemoryError):
    """Memory is not enough; the message says what was tried and what to change."""


class Stopped(Exception):
    """Raised by a caller's `on_step` to end the work; not an error of the edit.

    Loops that keep states to resume from hand over the current one first.
    """


def stop_of(on_step: "Callable[[int, int], None]", step: int, steps: int) -> Stopped | None:
    """Report progress to a caller; return its `Stopped`, to be raised at a good moment."""
    try:
        on_step(step, steps)
    except Stopped as stopped:
        return stopped
    return None


class NotFinite(AdaptiveDragError, ArithmeticError):
    """A loss or a latent is not finite; the message names the step.

    Attributes:
        step: the step of the last good state.
        state: that state by name, for the loops that resume from one; else empty.
    """

    def __init__(
        self, message: str, *, step: int = 0, state: "Mapping[str, Tensor] | None" = None
    ) -> None:
        super().__init__(message)
        self.step = step
        self.state = state or {}
