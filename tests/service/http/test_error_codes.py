from __future__ import annotations

import ast

from contract.errors import ImageError
from service.http.error_codes import CODES
from tests.support.server import ROOT


def literals() -> set[str]:
    """The codes in calls of ApiError, reply and what is derived from them, as they stand in the source."""
    found = set()
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and (name.endswith("Error") or name in {"reply", "refuse"}):
                found |= {
                    word.value
                    for word in node.args[:3]
                    if isinstance(word, ast.Constant)
                    and isinstance(word.value, str)
                    and word.value.replace("_", "").isalpha()
                    and word.value == word.value.lower()
                }
    return found


def test_every_code_that_is_raised_is_documented() -> None:
    assert literals() - set(CODES) == set()
    assert {kind.code for kind in ImageError.__subclasses__()} <= set(CODES)


def test_every_documented_code_stands_in_the_source() -> None:
    source = "".join(path.read_text() for floor in ("service", "contract") for path in (ROOT / floor).rglob("*.py"))
    for code in set(CODES) - {"bad_request", "method_not_allowed", "not_found"}:  # Starlette's, by their phrases
        assert source.count(f'"{code}"') + source.count(f"{code}") > 1, code
