"""The examples in docstrings are what happens."""

from __future__ import annotations

import doctest

import pytest

from contract import card, formats, typed_json


@pytest.mark.parametrize("module", [card, formats, typed_json])
def test_the_examples_hold(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]  # a module is passed
    assert failed == 0
    assert tried > 0
