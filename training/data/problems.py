"""What is wrong with labelled images, or was left out of them, under names that programs can rely on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

KINDS: Final = {
    "unreadable": "an image that cannot be decoded: damaged, of a format that is not read, or not to be opened",
    "unreadable_folder": "a folder that cannot be listed",
    "no_class": "images in no class folder, or without a label: left out",
    "outside_splits": "images beside the folders train, validation and test: left out",
    "empty_class": "a class folder without images, or with none that can be read: left out",
    "system_files": "hidden files and folders, and systems' own (`@eaDir`, `$RECYCLE.BIN`): left out",
    "not_an_image": "other files in class folders: passed over",
    "missing_file": "a row of a label file names no image",
    "label_conflict": "a label file gives one image two classes: left out",
    "garbled_name": "a name in an archive that is not UTF-8",
    "duplicates_across_splits": "the same image in two splits, such as train and test",
    "duplicates_across_classes": "the same image in two classes",
    "duplicates": "the same image twice in one class of one split",
    "few_images": "a class with too few training images: `train` refuses it",
    "one_class": "there is one class only: `train` refuses it",
    "no_training_images": "there is no training split: `train` refuses it",
    "unknown_class": "a class that validation or test has, and training has not: `train` refuses it",
    "not_in_split": "a class of which the validation or test split has no images",
    "sizes": "the splits' images differ in size: `train` refuses them without `--size`",
    "imbalance": "the largest class has more than one and a half times the training images of the smallest",
}
"""Each kind of problem, and what it is."""
UNEVEN: Final = 1.5
"""Classes are uneven where one has more than so many times the training images of another."""


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        kind: one of `KINDS`.
        message: one line for people.
        files: the files or folders that it is about, as the source names them; may be empty.
    """

    kind: str
    message: str
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of problem")


def named(files: Iterable[str], most: int = 3) -> str:
    """The first of some names, and how many more there are.

    Example:
        >>> named(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"])
        'a.jpg, b.jpg, c.jpg and 2 more'
    """
    files = list(files)
    rest = f" and {len(files) - most:,} more" if len(files) > most else ""
    return ", ".join(files[:most]) + rest
