"""Labels from a table: a CSV file with one row an image, `file,label`, with a header or without."""

from __future__ import annotations

import csv
import io
import posixpath
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from contract import formats
from contract.errors import DataError
from training.data.layout import Layout, Place
from training.data.names import canonical, is_number, split_of
from training.data.problems import Problem, named

_FILE: Final = (
    "file", "files", "filename", "file_name", "filepath", "file_path", "path", "image", "images", "image_id", "imageid",
    "image_name", "image_path", "img", "img_name", "id", "name",
)  # fmt: skip
_LABEL: Final = (
    "label", "labels", "class", "classes", "classid", "class_id", "class_name", "category", "target", "species",
    "breed", "tag", "y",
)  # fmt: skip
_SPLIT: Final = ("split", "set", "subset", "partition", "fold", "phase")
_LEAST: Final = 0.5
"""The share of its rows that must name images, for a table to be one of labels."""


@dataclass(frozen=True)
class Table:
    """Labels of images.

    Attributes:
        name: the table's, in the source.
        rows: the image that each row names (None where there is none), the row's own name for it, its class, its split.
        is_certain: whether its header, if it has one, says that its labels are labels.
    """

    name: str
    rows: tuple[tuple[str | None, str, str, str | None], ...]
    is_certain: bool = True

    @property
    def labels(self) -> dict[str, set[str]]:
        """The classes that each image is given."""
        names: dict[str, set[str]] = {}
        for image, _, label, _ in self.rows:
            if image and label:
                names.setdefault(image, set()).add(label)
        return names


def read(name: str, data: bytes, find: Finder) -> Table | None:
    """Read a table of labels; None where it is a table of something else.

    Args:
        name: the table's; what its rows name is looked for beside it, then anywhere.
        data: its bytes.
        find: finds the images that rows name.

    Example:
        >>> read("labels.csv", b"1.jpg,cat", Finder(["1.jpg"])).labels
        {'1.jpg': {'cat'}}
    """
    rows = _rows(data)
    if not rows or len(rows[0]) < 2:
        return None
    folder = posixpath.dirname(name)
    head = [cell.lower().replace(" ", "_") for cell in rows[0]]
    is_known = any(cell in _FILE for cell in head) and any(cell in _LABEL for cell in head)
    has_header = is_known or not any(find(cell, folder) or cell.endswith(formats.SUFFIXES) for cell in head + rows[0])
    body = [row for row in rows[has_header:] if len(row) == len(head)]
    odd = [row for row in rows[has_header:] if len(row) != len(head)]
    columns = list(range(len(head)))
    named_file = [column for column in columns if has_header and head[column] in _FILE]
    at_file = max(named_file or columns, key=lambda column: sum(find(row[column], folder) is not None for row in body))
    if not body or sum(find(row[at_file], folder) is not None for row in body) < _LEAST * len(body):
        return None
    at_split = next((column for column in columns if has_header and head[column] in _SPLIT), None)
    rest = [column for column in columns if column not in {at_file, at_split}]
    at_label = next((column for word in _LABEL for column in rest if has_header and head[column] == word), None)
    is_certain = at_label is not None or not has_header
    if at_label is None and len(rest) == 1:
        at_label = rest[0]
    if at_label is None:
        return None
    of_table = split_of(posixpath.basename(name).rpartition(".")[0])

    def split(row: list[str], image: str | None) -> str | None:
        said = [
            of_table if at_split is None else split_of(row[at_split]),
            *map(split_of, (image or "").split("/")[:-1]),
        ]
        return next((split or "test" for split in said if split is not None), None)

    matched = [(find(row[at_file], folder), row) for row in body]
    named_rows = ((image, row[at_file], canonical(row[at_label]), split(row, image)) for image, row in matched)
    return Table(name, (*named_rows, *((None, ",".join(row), "", of_table) for row in odd)), is_certain)


def arrange(tables: Collection[Table], images: Collection[str]) -> Layout:
    """Say of each image which split and class it is of, by tables of labels.

    Raises:
        DataError: two tables for the same split.
    """
    where = " and ".join(table.name for table in tables)
    by_split = Counter(split for table in tables for split in {row[3] for row in table.rows})
    if any(count > 1 for count in by_split.values()):
        raise DataError(f"{where} both label images: give the one that counts as --data")
    said: dict[str, dict[tuple[str, str], None]] = {}
    for table in tables:
        for image, _, label, split in table.rows:
            if image and label:
                said.setdefault(image, {})[split or "train", label] = None
    folder = posixpath.commonpath([posixpath.dirname(table.name) for table in tables])
    places = []
    for image, texts in said.items():
        if len(texts) == 1:
            ((split, label),) = texts
            inside = image.removeprefix(f"{folder}/") if folder else image
            places.append(Place(image, split, label, canonical(inside)))
    problems = []
    conflicts = tuple(image for image, texts in said.items() if len(texts) > 1)
    missing = tuple(text for table in tables for image, text, _, _ in table.rows if image is None)
    without = tuple(image for image in images if image not in said)
    for kind, names, text in (
        ("label_conflict", conflicts, f"left out, because {where} gives them two classes or splits: "),
        ("missing_file", missing, f"{where} names images that are not there: "),
        ("no_class", without, f"left out, because {where} gives them no class: "),
    ):
        if names:
            problems.append(Problem(kind, text + named(names), names))
    return Layout(tuple(places), (f"the classes are those that {where} gives",), tuple(problems))


def beside(table: Table, layout: Layout) -> list[Place]:
    """The images in no class folder to which a table gives one class, of those that the folders have, and a split.

    A table that is not certain to be one of labels, or that disagrees with the folders, gives none.
    """
    if not table.is_certain or disagreement(table, layout):
        return []
    in_folders, labels = {place.name for place in layout.places}, table.labels
    classes = {_plain(place.label): place.label for place in layout.places}
    return [
        Place(image, split, classes[_plain(label)], canonical(image))
        for image, _, label, split in table.rows
        if image and split and image not in in_folders and len(labels.get(image, ())) == 1 and _plain(label) in classes
    ]


def disagreement(table: Table, layout: Layout) -> str | None:
    """The first image to which a table and the folders give different classes; None where there is none."""
    folders = {place.name: place.label for place in layout.places}
    for image, labels in table.labels.items():
        if image in folders and {_plain(label) for label in labels} != {_plain(folders[image])}:
            return image
    return None


def _rows(data: bytes) -> list[list[str]]:
    """The rows of a table; none where it is not text, or no table."""
    try:
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        rows = csv.reader(io.StringIO(text), delimiter=delimiter)
        return [[cell.strip() for cell in row] for row in rows if row]
    except (UnicodeDecodeError, csv.Error):
        return []


def _plain(label: str) -> str:
    """A label, numbers without leading zeros: the folder 00007 is class 7."""
    return str(int(label)) if is_number(label) else label


class Finder:
    """Finds the image that a cell names: beside the table, by its whole path, by its name alone, without its ending.

    Args:
        images: the names of all images.
    """

    def __init__(self, images: Collection[str]) -> None:
        self._names: dict[str, str | None] = {}
        self._whole = {canonical(image): image for image in images}
        for image in images:
            base = canonical(posixpath.basename(image))
            for short in {base, base.rpartition(".")[0] or base}:
                self._names[short] = None if short in self._names else image  # of two it is neither

    def __call__(self, cell: str, folder: str) -> str | None:
        """The image that a cell of a table in that folder names; None where there is none, or more than one."""
        said = canonical(cell.replace("\\", "/"))
        said = said.removeprefix("./")
        return (
            self._whole.get(posixpath.join(folder, said))
            or self._whole.get(said)
            or self._names.get(said)
            or self._names.get(posixpath.basename(said))
        )
