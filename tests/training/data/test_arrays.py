from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import DataError
from training.data import arrays
from training.data.split import Decoded

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
Y = np.array([2, 10, 2, 10, 1, 1])


def load(tmp_path: Path, model: tuple[str, ...] | None = None, **content: Any) -> Decoded:
    np.savez(tmp_path / "a.npz", **content)
    return arrays.from_npz(tmp_path / "a.npz", model)


def named(decoded: Decoded, split: str = "train") -> list[str]:
    return [decoded.labels[target] for target in decoded.splits[split].targets]


@pytest.mark.parametrize(
    ("x", "y", "split"),
    [
        ("x_train", "y_train", "train"),
        ("X_test", "Y_test", "test"),
        ("train_images", "train_labels", "train"),
        ("val_images", "val_labels", "validation"),
        ("x", "y", "train"),
        ("images", "labels", "train"),
        ("data", "target", "train"),
    ],
)
def test_arrays_of_many_names(tmp_path: Path, x: str, y: str, split: str) -> None:
    content: dict[str, Any] = {x: X, y: Y}
    decoded = load(tmp_path, **content)
    assert list(decoded.splits) == [split]
    assert named(decoded, split) == ["2", "10", "2", "10", "1", "1"]
    assert decoded.notes == (f"{x} and {y} are taken as the {split} split",)


def test_numbers_are_sorted_as_numbers_and_keep_their_names(tmp_path: Path) -> None:
    assert load(tmp_path, x_train=X, y_train=Y).labels == ("1", "2", "10")


def test_labels_name_the_numbers_whatever_their_place_in_the_file(tmp_path: Path) -> None:
    names = np.array([f"n{number}" for number in range(11)])
    decoded = load(tmp_path, labels=names, x_train=X, y_train=Y)
    assert decoded.labels == ("n1", "n2", "n10")
    (problem,) = decoded.problems
    assert problem.kind == "empty_class"
    assert "n0" in problem.files


@pytest.mark.parametrize("shape", [(6, 28, 28), (6, 28, 28, 1)])
def test_images_without_colours_get_three_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    grey = RNG.integers(0, 256, shape, dtype=np.uint8)
    images = load(tmp_path, x_train=grey, y_train=Y).splits["train"].images
    assert images.shape == (6, 28, 28, 3)
    for channel in range(3):
        np.testing.assert_array_equal(images[..., channel], grey.reshape(6, 28, 28))


@pytest.mark.parametrize("kind", [np.float32, np.int64, bool])
def test_one_hot_rows(tmp_path: Path, kind: type) -> None:
    decoded = load(tmp_path, x_train=X, y_train=np.eye(3, dtype=kind)[[0, 1, 2, 0, 1, 2]], labels=np.array(list("abc")))
    assert named(decoded) == list("abcabc")


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_as_text(tmp_path: Path, kind: str) -> None:
    decoded = load(tmp_path, x_train=X, y_train=np.array(["dog", "cat", "cat", "dog", "cat", "cat"]).astype(kind))
    assert decoded.labels == ("cat", "dog")
    assert named(decoded)[:2] == ["dog", "cat"]


def test_whole_numbers_of_any_type(tmp_path: Path) -> None:
    decoded = load(tmp_path, x_train=X.astype(np.int64), y_train=Y.astype(np.float64)[:, None])
    np.testing.assert_array_equal(decoded.splits["train"].images, X)
    assert decoded.labels == ("1", "2", "10")


def test_numbers_agree_with_a_model_s_classes(tmp_path: Path) -> None:
    """By name where these are numbers, else by their place."""
    assert load(tmp_path, tuple(str(number) for number in range(11)), x_train=X, y_train=Y).labels == ("1", "2", "10")
    assert load(tmp_path, ("01", "2", "10"), x_train=X, y_train=Y).labels == ("01", "2", "10")
    letters = tuple("abcdefghijk")
    by_place = load(tmp_path, letters, x_train=X, y_train=Y)
    assert by_place.labels == ("b", "c", "k")
    assert (
        by_place.notes[-1] == "numbers are taken for the model's classes in their order: 1 is 'b', 2 is 'c', 10 is 'k'"
    )
    with pytest.raises(DataError, match="up to 10, the model has 3"):
        load(tmp_path, ("a", "b", "c"), x_train=X, y_train=Y)
    with pytest.raises(DataError, match="add `labels`"):
        load(tmp_path, ("a", "2", "c"), x_train=X, y_train=Y)


def test_the_checksum_is_of_what_is_used(tmp_path: Path) -> None:
    first = load(tmp_path, x_train=X, y_train=Y)
    second = load(tmp_path, x_train=X, y_train=Y, notes=np.zeros(3))
    assert first.checksum == second.checksum
    assert first.file_checksum != second.file_checksum
    assert load(tmp_path, x_train=X, y_train=Y[::-1]).checksum != first.checksum


def test_the_same_image_twice_is_named(tmp_path: Path) -> None:
    decoded = load(tmp_path, x_train=X, y_train=Y, x_test=X[:1], y_test=Y[:1])
    assert [(problem.kind, problem.files) for problem in decoded.problems] == [
        ("duplicates_across_splits", ("x_train[0]", "x_test[0]"))
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"x_train": X.transpose(0, 3, 1, 2), "y_train": Y}, "channels last"),
        ({"x_train": X / 255, "y_train": Y}, "multiply them by 255"),
        ({"x_train": X, "y_train": np.full((6, 3), 1 / 3)}, "not one-hot"),
        ({"x_train": X, "y_train": Y - 5}, "one whole number from 0"),
        ({"x_train": X, "X_train": X, "y_train": Y}, "keep one pair"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": np.array(list("abcabc"))}, "names in another"),
        ({"x_train": X.astype(np.int64) + 1, "y_train": Y}, "must be uint8"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, content: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        load(tmp_path, **content)
    assert "\n" not in str(caught.value)
