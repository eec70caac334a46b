from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from contract import typed_json
from contract.typed_json import FieldError, Range


@dataclass(frozen=True)
class Inner:
    count: int
    note: str | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    mode: Literal["a", "b"] = "a"
    flag: bool = False
    share: Annotated[float, Range(0, 1)] = 0.5
    above: Annotated[float, Range(0, without_low=True)] = 1.0
    limit: Annotated[int, Range(1, 9)] | None = None
    inner: Inner = Inner(0)
    pair: tuple[int, int] | None = None
    rows: tuple[tuple[int, ...], ...] = ()
    shares: dict[str, float] = field(default_factory=dict)


FULL = Outer("x", "b", True, 1.0, 0.1, 9, Inner(-1, "n"), (1, 2), ((1,), ()), {"a": 0.1})


@pytest.mark.parametrize("value", [Outer("x"), FULL])
def test_what_is_encoded_is_decoded(value: Outer) -> None:
    assert typed_json.decode(Outer, typed_json.encode(value)) == value


def test_what_is_not_known_is_left_out() -> None:
    assert typed_json.encode(Inner(0)) == {"count": 0}
    assert "pair" not in typed_json.encode(Outer("x"))


def test_a_whole_number_is_a_number() -> None:
    decoded = typed_json.decode(Outer, {"name": "x", "share": 1})
    assert isinstance(decoded.share, float)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": 7}, "`name` must be text, not 7"),
        ({"name": None}, "`name` must be text, not null"),
        ({"name": "\ud800"}, r'`name` must be text without half of a surrogate pair, not "\ud800"'),
        ({"mode": "c"}, '`mode` must be one of a, b, not "c"'),
        ({"mode": []}, "`mode` must be one of a, b, not a list"),
        ({"flag": 1}, "`flag` must be true or false, not 1"),
        ({"share": True}, "`share` must be a number at least 0 and at most 1, not true"),
        ({"share": "0.5"}, '`share` must be a number at least 0 and at most 1, not "0.5"'),
        ({"share": 1.01}, "`share` must be a number at least 0 and at most 1, not 1.01"),
        ({"above": 0}, "`above` must be a number above 0, not 0"),
        ({"above": float("inf")}, "`above` must be a number above 0, not Infinity"),
        ({"above": float("nan")}, "`above` must be a number above 0, not NaN"),
        ({"above": 10**400}, "`above` must be a number above 0, not 1000"),
        ({"limit": 10}, "`limit` must be a whole number at least 1 and at most 9, not 10"),
        ({"limit": 1.0}, "`limit` must be a whole number at least 1 and at most 9, not 1.0"),
        ({"inner": {"count": False}}, "`inner.count` must be a whole number, not false"),
        ({"inner": {"count": 2**63}}, "`inner.count` must be a whole number, not 9223372036854775808"),
        ({"inner": {}}, "`inner.count` is missing"),
        ({"inner": None}, "`inner` must be an object, not null"),
        ({"inner": []}, "`inner` must be an object, not a list"),
        ({"pair": [1]}, "`pair` must have 2 items, not 1"),
        ({"pair": [1, "2"]}, '`pair[1]` must be a whole number, not "2"'),
        ({"pair": "12"}, '`pair` must be a list, not "12"'),
        ({"rows": [[1], [2.5]]}, "`rows[1][0]` must be a whole number, not 2.5"),
        ({"shares": {"a": "b"}}, '`shares.a` must be a number, not "b"'),
        ({"shares": {"\udfff": 1}}, r'`shares` must be text without half of a surrogate pair, not "\udfff"'),
        ({"shares": {"a\nb": None}}, r"`shares.a\nb` must be a number, not null"),
    ],
)
def test_a_value_of_another_type_is_an_error_with_its_path(change: dict[str, Any], says: str) -> None:
    with pytest.raises(FieldError) as error:
        typed_json.decode(Outer, {"name": "x", **change})
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
    str(error.value).encode()  # it becomes a reply or a log line


def test_unknown_keys_are_refused_at_the_top_and_only_if_asked() -> None:
    raw = {"name": "x", "later": 1, "inner": {"count": 1, "later": 2}}
    assert typed_json.decode(Outer, raw) == Outer("x", inner=Inner(1))
    with pytest.raises(FieldError, match=r"unknown key `later`, `\\ud800`"):
        typed_json.decode(Outer, {**raw, "\ud800": 1}, refuse_unknown=True)
    with pytest.raises(FieldError, match="must be an object, not a list"):
        typed_json.decode(Outer, [], refuse_unknown=True)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "NaN", '{"a": Infinity}', "[-Infinity]", "1" * 5000, ""])
def test_what_is_not_json_is_an_error(text: str) -> None:
    with pytest.raises(FieldError, match="not JSON"):
        typed_json.loads(text)
