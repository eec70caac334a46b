"""Which folders are splits and which are classes, from names alone; what cannot be told is refused, not guessed.

Read are, with any folders around them: `<class>/*`, `<split>/<class>/*`, `<class>/<split>/*`, and class folders with
`test/` or `validation/` beside them. The images in a class's own folders belong to the class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from contract.errors import DataError
from training.data.names import SPLITS, canonical, natural
from training.data.problems import Problem, named
from training.data.tree import Folder, grow

EXPECTED: Final = "expected train/<class>/*.jpg or <class>/*.jpg, or a file labels.csv with the columns file and label"


@dataclass(frozen=True)
class Place:
    """Where one image belongs.

    Attributes:
        name: as the source spells it.
        split: `train`, `validation` or `test`.
        label: its class.
        key: its path in its class's folder, in NFC: the same in a folder and in an archive of it.
    """

    name: str
    split: str
    label: str
    key: str


@dataclass(frozen=True)
class Layout:
    """What a source's names say.

    Attributes:
        places: the images that are used.
        notes: what was understood, one line each.
        problems: what was left out, and why.
    """

    places: tuple[Place, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def arrange(images: Collection[str], folders: Collection[str] = (), others: Collection[str] = ()) -> Layout:
    """Say of each image which split and class it is of.

    Args:
        images: the names of all images, parts separated by `/`.
        folders: the names of all folders, so that empty ones are noticed.
        others: the names of all other files.

    Raises:
        DataError: no images, no class folders, or more than one way to read them; the message says what was found and
            what would be right.

    Example:
        >>> arrange(["a/cat/1.jpg", "a/dog/1.jpg"]).places[0]
        Place(name='a/cat/1.jpg', split='train', label='cat', key='1.jpg')
    """
    root, system = grow(images, folders, others)
    if next(root.all_images(), None) is None:
        raise DataError(f"there are no images: {EXPECTED}")
    layout = _Reader(root).layout()
    if system:
        left = Problem("system_files", f"left out, as hidden or a system's own: {named(system)}", tuple(system))
        layout = replace(layout, problems=(*layout.problems, left))
    return layout


class _Reader:
    """Reads one tree."""

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._places: list[Place] = []
        self._notes: list[str] = []
        self._problems: list[Problem] = []

    def layout(self) -> Layout:
        base = self._unwrapped(self._root)
        splits = {name: folder for name, folder in base.full.items() if folder.split is not None}
        if self._is_class_first(base):
            self._read_class_first(base)
        elif any(folder.full for folder in splits.values()):
            self._read_split_first(base, splits)
        else:
            self._read_classes(base, self._without_unlabelled(base, splits), "train")
        return Layout(tuple(self._places), tuple(self._notes), tuple(self._problems))

    def _unwrapped(self, folder: Folder) -> Folder:
        """The folder that holds the classes or splits: one inside others that hold nothing else."""
        while True:
            full = folder.full
            holders = [part for part in full.values() if part.split is None and _holds_splits(part)]
            here_is_split = any(part.split is not None and part.full for part in full.values())
            if len(holders) > 1 and not here_is_split:
                part, other = holders[:2]
                raise DataError(
                    f"{part.path}/ and {other.path}/ each hold folders {_list(_split_names(part))} of "
                    "classes: these are several data sets; give one of them"
                )
            first = next(iter(full.values()), None)
            if holders and not here_is_split:
                inner = holders[0]
            elif first is not None and len(full) == 1 and first.split is None and first.is_parted:
                inner = first
            else:
                return folder
            self._leave_out("no_class", folder.images, "they stand in no class folder")
            for other in full.values():
                if other is not inner:
                    self._leave_out("outside_splits", other.all_images(), f"they stand beside {inner.path}/")
            folder = inner

    def _is_class_first(self, base: Folder) -> bool:
        """Whether each class folder holds the splits, as in cat/train/1.jpg."""
        full = base.full
        parted = [name for name, folder in full.items() if _is_parted_by_split(folder)]
        if not parted or all(folder.split is not None for folder in full.values()):
            return False
        if len(parted) < len(full):
            if any(folder.split is not None and folder.full for folder in full.values()):
                return False  # train/<class>: what stands beside it is of no account
            other = next(folder for name, folder in full.items() if name not in parted)
            raise DataError(
                f"{full[parted[0]].path}/ holds {_list(_split_names(full[parted[0]]))}, but {other.path}/ does not: "
                "give every class these folders, or none"
            )
        return len(full) > 1

    def _read_class_first(self, base: Folder) -> None:
        self._leave_out("no_class", base.images, "they stand in no class folder")
        present = {part.split for folder in base.full.values() for part in folder.full.values()}
        for label, folder in base.folders.items():
            if label not in base.full:
                self._report_empty(folder)
                continue
            self._leave_out("no_class", folder.images, f"they stand beside {_list(_split_names(folder))}")
            for part in folder.full.values():
                self._take(part, _resolved(part.split, present), label)
        self._notes.append(f"the folders of classes hold those of splits: {_list(_split_names(*base.full.values()))}")

    def _read_split_first(self, base: Folder, splits: dict[str, Folder]) -> None:
        present = {folder.split for folder in splits.values()}
        by_split: dict[str, Folder] = {}
        for name, folder in splits.items():
            split = _resolved(folder.split, present)
            classes = self._inner(folder)
            if not classes.full:
                self._leave_out("no_class", folder.all_images(), f"{folder.path}/ has no class folders")
                continue
            if split in by_split:
                raise DataError(
                    f"{by_split[split].path}/ and {classes.path}/ are both named as the {split} split: keep one of "
                    "them, or call the other train, validation or test"
                )
            by_split[split] = classes
            if name != split:
                self._notes.append(f"{folder.path}/ is taken as the {split} split")
        beside = {name: folder for name, folder in base.full.items() if name not in splits}
        known = {label for folder in by_split.values() for label in folder.full}
        for folder in beside.values():
            recurring = sorted(known & set(folder.full), key=natural)
            if recurring:
                raise DataError(
                    f"{folder.path}/ holds the same classes ({named(recurring)}) as {_paths(by_split.values())}: "
                    "call it train, validation or test, or move it elsewhere"
                )
        if "train" in by_split:
            for folder in beside.values():
                self._leave_out(
                    "outside_splits",
                    folder.all_images(),
                    f"{folder.path}/ stands beside {by_split['train'].path}/; if it is a class, move it in there",
                )
            self._leave_out("no_class", base.images, "they stand in no class folder")
        elif beside:
            self._read_classes(base, beside, "train")
        levels = [set(folder.full) for folder in by_split.values()]
        agree = any(names & other for at, names in enumerate(levels) for other in levels[:at])
        for split, folder in by_split.items():
            self._read_classes(folder, folder.full, split, is_sure=agree)
        for folder in base.folders.values():
            if folder.split is not None and folder.path not in {names.path for names in splits.values()}:
                self._report_empty(folder)

    def _inner(self, folder: Folder) -> Folder:
        """The folder of a split that holds its classes: x/x/<class> and x/images/<class> have one more around it."""
        while len(folder.full) == 1:
            ((name, only),) = folder.full.items()
            if not only.is_parted and only.split != folder.split and not folder.path.endswith(name):
                break  # the only class
            self._leave_out("no_class", folder.images, "they stand in no class folder")
            folder = only
        return folder

    def _without_unlabelled(self, base: Folder, splits: dict[str, Folder]) -> dict[str, Folder]:
        """The class folders of a base where folders named as splits hold nothing but loose images."""
        full = base.full
        if not splits and not full:
            where = "the images stand" if not base.path else f"the images in {base.path}/ stand"
            raise DataError(f"{where} in no class folders ({named(base.images)}): {EXPECTED}")
        trains = [name for name, folder in splits.items() if folder.split == "train"]
        if len(splits) == len(full) or (trains and len(splits) > 1):
            held = " and ".join(f"{folder.path}/ ({folder.count:,} images)" for folder in splits.values())
            raise DataError(f"{held} without class folders: {EXPECTED}")
        if trains:  # a class of vehicles, beside others
            self._notes.append(f"{splits[trains[0]].path}/ is taken as a class, as the folders beside it are")
        for name, folder in splits.items():
            if name not in trains:
                self._leave_out("no_class", folder.all_images(), f"{folder.path}/ has no class folders")
        return {name: folder for name, folder in full.items() if name not in splits or name in trains}

    def _read_classes(self, base: Folder, classes: dict[str, Folder], split: str, *, is_sure: bool = False) -> None:
        if not is_sure:
            _refuse_grid(classes)
        self._leave_out("no_class", base.images, "they stand in no class folder")
        for label, folder in classes.items():
            self._take(folder, split, label)
        inner = [folder.path for inner_folder in classes.values() for folder in inner_folder.full.values()]
        if inner:
            self._notes.append(f"folders in a class's folder are part of it: {named(inner)}")
        for name, folder in base.folders.items():
            if name not in base.full and folder.split is None:
                self._report_empty(folder)

    def _take(self, folder: Folder, split: str, label: str) -> None:
        begin = len(folder.path.split("/"))
        for name in folder.all_images():
            key = canonical("/".join(name.split("/")[begin:]))
            self._places.append(Place(name, split, label, key))
        others = tuple(folder.all_others())
        if others:
            text = f"{folder.path}/ holds files that are no images: {named(others)}"
            self._problems.append(Problem("not_an_image", text, others))

    def _report_empty(self, folder: Folder) -> None:
        text = f"{folder.path}/ holds no images: left out"
        self._problems.append(Problem("empty_class", text, (folder.path,)))

    def _leave_out(self, kind: str, images: Iterable[str], why: str) -> None:
        names = tuple(images)
        if names:
            count = f"{len(names):,} images are" if len(names) > 1 else "1 image is"
            self._problems.append(Problem(kind, f"{count} left out ({named(names)}): {why}", names))


def _holds_splits(folder: Folder) -> bool:
    """Whether it holds folders named as splits, and class folders in these."""
    return any(inner.split is not None and inner.is_parted for inner in folder.full.values())


def _is_parted_by_split(folder: Folder) -> bool:
    """Whether all folders in it are named as splits, and hold images themselves."""
    return bool(folder.full) and all(inner.split is not None and inner.images for inner in folder.full.values())


def _refuse_grid(classes: dict[str, Folder]) -> None:
    """Raise where sibling folders hold folders of the same names: either level may be that of the classes."""
    where: dict[str, list[Folder]] = {}
    for folder in classes.values():
        for name in folder.full if folder.is_parted else ():
            where.setdefault(name, []).append(folder)
    recurring = sorted((name for name, places in where.items() if len(places) > 1), key=natural)
    if recurring:
        above = list({folder.path: folder for name in recurring for folder in where[name]}.values())
        raise DataError(
            f"{_paths(above)} hold folders of the same names ({named(recurring)}): if these are the classes, call the "
            "folders above them train, validation or test; if not, move their images up into the folders above"
        )


def _resolved(split: str | None, present: Collection[str | None]) -> str:
    """`eval` is whichever of validation and test is not there otherwise; test where neither is."""
    return split or ("validation" if "test" in present and "validation" not in present else "test")


def _split_names(*folders: Folder) -> list[str]:
    names = {name: part.split for folder in folders for name, part in folder.full.items() if part.split is not None}
    return sorted(names, key=lambda name: ([*SPLITS, ""].index(names[name] or ""), name))


def _list(names: Collection[str]) -> str:
    return " and ".join(f"{name}/" for name in names)


def _paths(folders: Collection[Folder]) -> str:
    return " and ".join(f"{folder.path}/" for folder in list(folders)[:3]) + (" and others" if len(folders) > 3 else "")
