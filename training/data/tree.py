"""A source's names as folders in folders, without what is hidden or a system's own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from contract import files
from training.data.names import canonical


@dataclass
class Folder:
    """A folder of a source: the images directly in it, and the folders in it by their name in NFC."""

    path: str
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
        The folder around all, and the names that were left out as hidden or a system's own; litter goes without saying.
    """
    root, system = Folder(""), dict[str, None]()

    def folder_of(parts: list[str], whole: str) -> Folder | None:
        here = root
        for depth, part in enumerate(parts):
            if files.is_left_out(part):
                system["/".join(whole.split("/")[: depth + 1])] = None
                return None
            path = "/".join(whole.split("/")[: depth + 1])
            here = here.folders.setdefault(canonical(part), Folder(path))
        return here

    for name in folders:
        folder_of(name.split("/"), name)
    for name, is_image in (*((name, True) for name in images), *((name, False) for name in others)):
        *parents, last = name.split("/")
        folder = folder_of(parents, name)
        if folder is None or files.is_litter(last):
            continue
        if files.is_left_out(last):
            if is_image:
                system[name] = None
        else:
            (folder.images if is_image else folder.others).append(name)
    return root, list(system)
