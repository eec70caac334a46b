"""JSON to frozen dataclasses and back, strictly: a value of another type than the field's is an error with its path.

The types that a field may have: `str`, `int`, `float`, `bool`, `Literal`, a dataclass, `tuple[X, ...]`, `tuple[X, Y]`,
`dict[str, X]`, `X | None`, and `Annotated[int, Range(...)]` for numbers with limits.

Example:
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Size:
    ...     height: int
    ...     width: int | None = None
    >>> decode(Size, {"height": 8})
    Size(height=8, width=None)
    >>> encode(Size(8))
    {'height': 8}
    >>> decode(Size, {"height": "8"})
    Traceback (most recent call last):
    ...
    contract.typed_json.FieldError: `height` must be a whole number, not "8"
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")

_LONGEST_SHOWN: Final = 60
"""Characters of a wrong value that an error message repeats."""
_MOST_NAMED: Final = 5
"""Keys that an error message names."""
_INT64: Final = 2**63
"""Whole numbers are signed and of 64 bits, as every reader of JSON has them."""


class FieldError(ValueError):
    """JSON that does not fit the dataclass; `str(error)` names the key and says what is expected."""


@dataclass(frozen=True)
class Range:
    """The limits of a number, used as `Annotated[float, Range(0, 1)]`.

    Attributes:
        low: the smallest value, None for no limit.
        high: the largest value, None for no limit.
        without_low: whether `low` itself is excluded.
        without_high: whether `high` itself is excluded.
    """

    low: float | None = None
    high: float | None = None
    without_low: bool = False
    without_high: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether the number lies within the limits."""
        if self.low is not None and (value < self.low or (self.without_low and value == self.low)):
            return False
        return self.high is None or not (value > self.high or (self.without_high and value == self.high))

    def __str__(self) -> str:
        """The limits in words, such as `above 0 and at most 1000`."""
        words = []
        if self.low is not None:
            words.append(f"{'above' if self.without_low else 'at least'} {self.low:g}")
        if self.high is not None:
            words.append(f"{'below' if self.without_high else 'at most'} {self.high:g}")
        return " and ".join(words)


def loads(text: str) -> object:
    """Parse JSON; `NaN` and `Infinity`, which Python accepts beyond the standard, are errors.

    Raises:
        FieldError: the text is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FieldError(f"not JSON: {error}") from None


def decode(kind: type[_T], value: object, *, refuse_unknown: bool = False) -> _T:
    """Turn what `loads` returned into a dataclass.

    Args:
        kind: the dataclass.
        value: a JSON object as a dict.
        refuse_unknown: whether a key that the dataclass does not have is an error. In nested dataclasses unknown keys
            are always ignored.

    Raises:
        FieldError: a key is missing, unknown, or its value has another type than the field; the message has the key's
            path, such as `training.recipe`.
    """
    if refuse_unknown and isinstance(value, dict):
        unknown = sorted(set(value) - {field.name for field in dataclasses.fields(cast("Any", kind))})
        if unknown:
            more = f" and {len(unknown) - _MOST_NAMED:,} more" if len(unknown) > _MOST_NAMED else ""
            raise FieldError(f"unknown key {', '.join(f'`{printable(key)}`' for key in unknown[:_MOST_NAMED])}{more}")
    return cast("_T", _decode(kind, value, ""))


def encode(value: object) -> Any:
    """Turn a dataclass into what `json.dumps` takes; what is None or empty is left out."""
    if dataclasses.is_dataclass(value):
        pairs = ((field.name, encode(getattr(value, field.name))) for field in dataclasses.fields(value))
        return {name: item for name, item in pairs if item is not None and item not in ([], {}, "")}
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


def printable(text: str) -> str:
    """The text, shortened, with escapes for what an error message, which is one line of UTF-8, cannot hold."""
    return json.dumps(text[:_LONGEST_SHOWN], ensure_ascii=False)[1:-1].encode(errors="backslashreplace").decode()


def _decode(kind: Any, value: object, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _decode_number(arguments[0], value, path, arguments[1])
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _decode(inner, value, path)
    if kind in (int, float):
        return _decode_number(kind, value, path)
    if origin is Literal:
        return value if value in arguments else _refuse(path, f"one of {', '.join(arguments)}", value)
    if kind is bool:
        return value if isinstance(value, bool) else _refuse(path, "true or false", value)
    if kind is str:
        return _decode_text(value, path)
    if origin is tuple:
        return _decode_tuple(arguments, value, path)
    if not isinstance(value, dict):
        _refuse(path, "an object", value)
    if origin is dict:
        return {_decode_text(key, path): _decode(arguments[1], item, _below(path, key)) for key, item in value.items()}
    return _decode_dataclass(kind, value, path)


def _decode_number(kind: type[int] | type[float], value: object, path: str, limits: Range = Range()) -> int | float:
    expected = " ".join(filter(None, ("a whole number" if kind is int else "a number", str(limits))))
    if isinstance(value, bool) or not isinstance(value, int | (int if kind is int else float)):
        _refuse(path, expected, value)
    fits = -_INT64 <= value < _INT64 if isinstance(value, int) else math.isfinite(value)
    if not fits or value not in limits:
        _refuse(path, expected, value)
    return kind(value)


def _decode_text(value: object, path: str) -> str:
    if not isinstance(value, str):
        _refuse(path, "text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(path, "text without half of a surrogate pair", value)
    return value


def _decode_tuple(arguments: tuple[Any, ...], value: object, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _refuse(path, "a list", value)
    if arguments[-1] is Ellipsis:
        arguments = arguments[:1] * len(value)
    if len(value) != len(arguments):
        raise FieldError(f"`{path}` must have {len(arguments)} items, not {len(value)}")
    return tuple(
        _decode(kind, item, f"{path}[{place}]") for place, (kind, item) in enumerate(zip(arguments, value, strict=True))
    )


def _decode_dataclass(kind: Any, value: dict[str, object], path: str) -> Any:
    hints = _hints(kind)
    for field in dataclasses.fields(kind):
        is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if is_required and field.name not in value:
            raise FieldError(f"`{_below(path, field.name)}` is missing")
    return kind(**{name: _decode(hints[name], value[name], _below(path, name)) for name in hints if name in value})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _below(path: str, key: str) -> str:
    return f"{path}.{printable(key)}" if path else printable(key)


def _refuse(path: str, expected: str, value: object) -> NoReturn:
    if isinstance(value, dict | list):
        shown = "an object" if isinstance(value, dict) else "a list"
    elif isinstance(value, str):
        shown = f'"{printable(value)}"'
    else:
        shown = json.dumps(value)[:_LONGEST_SHOWN]
    raise FieldError(f"`{path}` must be {expected}, not {shown}" if path else f"must be {expected}, not {shown}")


def _refuse_constant(name: str) -> NoReturn:
    raise FieldError(f"{name} is not a JSON number")
