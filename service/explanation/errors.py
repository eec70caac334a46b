"""What an explanation can be refused for.

ExplanationError           one line that says what was wrong and what would be right
├── UnknownLayer         404 unknown_layer
├── UnknownChannel       404 unknown_channel
├── UnknownClass         422 unknown_class
├── UnknownMethod        422 unknown_method
├── UnknownUnit          422 unknown_unit
├── InvalidOption        422 invalid_parameter
├── CannotExplain        409 cannot_explain
└── NotPrepared          409 not_prepared: what is asked for has not been computed beside the bundle
"""

from __future__ import annotations

from typing import ClassVar

from contract.errors import KernelscopeError


class ExplanationError(KernelscopeError):
    """A request for an explanation that is not answered.

    Attributes:
        code: a short identifier for programs, the `error.code` of a REST reply.
        status: the HTTP status that says the same.
    """

    code: ClassVar[str] = "cannot_explain"
    status: ClassVar[int] = 409


class CannotExplain(ExplanationError):
    """A model or a layer that a method does not apply to."""


class NotPrepared(ExplanationError):
    """What is asked for is read from files beside the bundle, and there are none."""

    code = "not_prepared"


class UnknownLayer(ExplanationError):
    """The model has no such layer."""

    code = "unknown_layer"
    status = 404


class UnknownChannel(ExplanationError):
    """The layer has no such channel."""

    code = "unknown_channel"
    status = 404


class UnknownClass(ExplanationError):
    """The model has no such class."""

    code = "unknown_class"
    status = 422


class UnknownMethod(ExplanationError):
    """There is no such method."""

    code = "unknown_method"
    status = 422


class UnknownUnit(ExplanationError):
    """The layer has no unit at that row, column and channel."""

    code = "unknown_unit"
    status = 422


class InvalidOption(ExplanationError):
    """An option of a method has a value that it cannot have."""

    code = "invalid_parameter"
    status = 422
