"""A source's names as folders in folders, without what is hidden or a system's own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from contract import files
from contract.errors import DataError
from training.data.names import canonical, splits_of

_DEEPEST: Final = 100
_MODEL: Final = ("/card.json", "/model.onnx")


@dataclass
class Folder:
    """A folder of a source: the images directly in it, and the folders in it by their name in NFC.

    `split` is the one that its name is the name of, as `names.split_of` says it.
    """

    path: str
    split: str | None = None
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def all_images(self) -> Iterator[str]:
        """Those in the folders in it, too."""
        yield from self.images
        for folder in self.folders.values():
            yield from folder.all_images()

    def all_others(self) -> Iterator[str]:
        """The other files in it and in the folders in it."""
        yield from self.others
        for folder in self.folders.values():
            yield from folder.all_others()

    @property
    def full(self) -> dict[str, Folder]:
        """The folders in it that hold images somewhere."""
        return {name: folder for name, folder in self.folders.items() if next(folder.all_images(), None) is not None}

    @property
    def is_parted(self) -> bool:
        """Whether its images all stand in folders in it."""
        return not self.images and bool(self.full)

    @property
    def count(self) -> int:
        """How many images it holds in all."""
        return sum(1 for _ in self.all_images())


def grow(images: Collection[str], folders: Collection[str], others: Collection[str]) -> tuple[Folder, list[str]]:
    """Make folders of names.

    Args:
        images, folders, others: the names of all images, folders and other files, parts separated by `/`.

    Returns:
        The folder around all, and the names that were left out as hidden, a system's own or a model's; litter goes
        without saying.

    Raises:
        DataError: folders are nested deeper than `_DEEPEST`.
    """
    # the folders of models hold plots, which are images
    cards, models = ({name.rpartition("/")[0] for name in others if name.endswith(end)} for end in _MODEL)
    models &= cards
    root, left_out = Folder(""), dict[str, None]()
    places: dict[str, Folder | None] = {"": root}

    def place(path: str) -> Folder | None:
        if path not in places:
            above, _, name = path.rpartition("/")
            parent = place(above)
            places[path] = None
            if parent is not None and (files.is_left_out(name) or path in models):
                left_out[path] = None
            elif parent is not None:
                places[path] = parent.folders.setdefault(canonical(name), Folder(path))
        return places[path]

    for name in (*folders, *images, *others):
        if name.count("/") > _DEEPEST:
            raise DataError(f"{name[:60]}... is deeper than {_DEEPEST} folders: these are no folders of classes")
    for name in folders:
        place(name)
    for name, is_image in (*((name, True) for name in images), *((name, False) for name in others)):
        above, _, last = name.rpartition("/")
        folder = place(above)
        if folder is None or files.is_litter(last):
            continue
        if files.is_left_out(last):
            if is_image:
                left_out[name] = None
        else:
            (folder.images if is_image else folder.others).append(name)
    for folder in places.values():
        if folder is not None:
            for name, split in splits_of(folder.folders).items():
                folder.folders[name].split = split
    return root, list(left_out)
