"""Calls that exist twice: for what answers for a model, and for one version of it by its number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Path

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Awaitable[Any]])

_VERSION = Annotated[str, Path(description="a version's number")]


def versioned(
    method: Callable[..., Any], model: str, action: str = "", **options: Any
) -> Callable[[_Endpoint], _Endpoint]:
    """Route `{model}{action}` and `{model}/versions/{version}{action}` to one endpoint.

    In the first the endpoint's `version` is None and no parameter; in the second it is one that is always there. A
    parameter that may be null in a path would be a document that clients cannot be generated from.

    Args:
        method: such as `router.get`.
        model: the path of a model, such as `/models/{name}`.
        action: what follows it, such as `/ready` or `:predict`.
        options: of both routes.
    """

    def register(endpoint: _Endpoint) -> _Endpoint:
        signature = inspect.signature(endpoint)
        others = [parameter for name, parameter in signature.parameters.items() if name != "version"]

        @functools.wraps(endpoint)
        async def newest(**arguments: Any) -> Any:
            return await endpoint(**arguments, version=None)

        @functools.wraps(endpoint)
        async def one_version(**arguments: Any) -> Any:
            return await endpoint(**arguments)

        number = inspect.Parameter("version", inspect.Parameter.KEYWORD_ONLY, annotation=_VERSION)
        newest.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        one_version.__signature__ = signature.replace(parameters=[*others, number])  # type: ignore[attr-defined]
        method(f"{model}{action}", **options)(newest)
        method(f"{model}/versions/{{version}}{action}", **options)(one_version)
        return endpoint

    return register
