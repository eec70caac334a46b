"""What an explanation can be refused for, beside what `contract.network.errors` has.

ExplanationError
├── UnknownClass         422 unknown_class
├── UnknownMethod        422 unknown_method
├── InvalidOption        422 invalid_parameter
└── NotPrepared          409 not_prepared: it is read from files beside the bundle, and there are none
"""

from __future__ import annotations

from contract.network.errors import ExplanationError


class NotPrepared(ExplanationError):
    """What is asked for is read from files beside the bundle, and there are none."""

    code = "not_prepared"


class UnknownClass(ExplanationError):
    """The model has no such class."""

    code = "unknown_class"
    status = 422


class UnknownMethod(ExplanationError):
    """There is no such method."""

    code = "unknown_method"
    status = 422


class InvalidOption(ExplanationError):
    """An option of a method has a value that it cannot have."""

    code = "invalid_parameter"
    status = 422
