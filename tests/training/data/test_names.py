from __future__ import annotations

import re

import pytest

from training.data import names


@pytest.mark.parametrize(
    "name", ["cat", "trains", "tester", "images", "set", "", "contest", "latest", "value", "traindog"]
)
def test_other_folders_are_no_splits(name: str) -> None:
    assert names.split_of(name) is None


def test_siblings_that_differ_in_the_split_s_word_are_splits() -> None:
    assert set(names.splits_of(["pets_train", "cars_test"]).values()) == {None}
    assert names.splits_of(["pets-train", "pets-val", "x"]) == {
        "pets-train": "train",
        "pets-val": "validation",
        "x": None,
    }


def test_numbers_sort_as_numbers() -> None:
    assert sorted(["1", "10", "2", "0", "-1"], key=names.natural) == ["-1", "0", "1", "2", "10"]
    assert sorted(["class 10", "class 2", "Class 1"], key=names.natural) == ["Class 1", "class 2", "class 10"]
    assert sorted(["b", "B", "a", "10"], key=names.natural) == ["10", "a", "B", "b"]
    assert sorted(["٢", "١٠"], key=names.natural) == ["٢", "١٠"]  # Arabic digits, 2 and 10


@pytest.mark.parametrize("label", ["گربه‌ها", "👩‍🚀", "全角\u3000空白", "a\u00a0b", "É", "a b", "<b>|`$"])
def test_names_of_any_script_can_be_those_of_classes(label: str) -> None:
    assert names.fault(label) is None


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("", "empty"),
        (" \u3000", "empty"),
        ("a\nb", r"U\+000A"),
        ("\x1b[31m", r"U\+001B"),
        ("a\u2028b", r"U\+2028"),
        ("a\u202eb", "reorders"),
        ("\ud800", "UTF-8"),
    ],
)
def test_control_characters_cannot(label: str, says: str) -> None:
    assert re.search(says, names.fault(label) or "")
