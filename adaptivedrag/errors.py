"""Errors of the method.

AdaptiveDragError
├── InvalidEdit (ValueError)        the request is wrong; found before any model loads
├── ModelUnavailable (OSError)      weights are not where they were looked for
├── UnsupportedModel (ValueError)   a model lacks a layer that the method taps
└── DragDiverged (ArithmeticError)  a loss or a latent stopped being finite
"""


class AdaptiveDragError(Exception):
    """Root of the errors that this package raises on purpose."""


class InvalidEdit(AdaptiveDragError, ValueError):
    """An edit cannot be done as it is written; the message says which value and what to do."""


class ModelUnavailable(AdaptiveDragError, OSError):
    """Model weights are missing; the message names the path or id that was tried."""


class UnsupportedModel(AdaptiveDragError, ValueError):
    """A model lacks a module that the method needs; the message names it."""


class DragDiverged(AdaptiveDragError, ArithmeticError):
    """A loss or a latent is not finite; the message names the step."""
