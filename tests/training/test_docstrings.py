"""The examples in docstrings are what happens."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from training.data import layout, names, problems, tables
from training.export import markdown


@pytest.mark.parametrize("module", [layout, names, problems, tables, markdown])
def test_the_examples_hold(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert failed == 0
    assert tried > 0
