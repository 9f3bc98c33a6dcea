"""Errors of the method.

AdaptiveDragError
├── InvalidEdit (ValueError)        the request is wrong; found before any model loads
├── ModelUnavailable (OSError)      weights are not where they were looked for
├── MetricUnavailable (OSError)     a metric's own network is not here
├── UnsupportedModel (ValueError)   a model lacks a layer that the method taps
├── DeviceMemoryExhausted (MemoryError)  memory was not enough, whatever was tried
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
    """Raised by a caller's `on_step` to end the work at hand; no error of the edit.

    What keeps states to resume from hands over one of the step at hand first.
    """


def stop_of(on_step: "Callable[[int, int], None]", step: int, steps: int) -> Stopped | None:
    """Tell a caller how far the work is; return its wish to end it, to be raised in good order."""
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
