"""What a look inside a network can be refused for.

ExplanationError           one line that says what was wrong and what would be right
├── CannotExplain        409 cannot_explain: a model or a layer that this does not apply to
├── UnknownLayer         404 unknown_layer
├── UnknownChannel       404 unknown_channel
└── UnknownUnit          422 unknown_unit
"""

from __future__ import annotations

from typing import ClassVar

from contract.errors import KernelscopeError


class ExplanationError(KernelscopeError):
    """A question about a network that is not answered.

    Attributes:
        code: a short identifier for programs, the `error.code` of a REST reply.
        status: the HTTP status that says the same.
    """

    code: ClassVar[str] = "cannot_explain"
    status: ClassVar[int] = 409


class CannotExplain(ExplanationError):
    """A model or a layer that what was asked for does not apply to."""


class UnknownLayer(ExplanationError):
    """The network has no such layer."""

    code = "unknown_layer"
    status = 404


class UnknownChannel(ExplanationError):
    """The layer has no such channel."""

    code = "unknown_channel"
    status = 404


class UnknownUnit(ExplanationError):
    """The layer has no unit at that row, column and channel."""

    code = "unknown_unit"
    status = 422
