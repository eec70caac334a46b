"""Labelled images from a folder or an archive: list, lay out, hash, and decode or take from the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from contract import files, preprocessing
from contract.errors import DataError, ImageError
from training.data import cache, duplicates, layout, sources, tables
from training.data.decode import Item, Progress, Size, checksum, chosen_size, decode, in_order, own_size
from training.data.duplicates import Copy
from training.data.layout import Layout, Place
from training.data.listing import TABLES, Listing
from training.data.names import natural
from training.data.problems import named
from training.data.split import Decoded

_LARGEST_TABLE: Final = 64 * 2**20
"""In bytes: a larger file is no table of labels."""
_MOST_TABLES: Final = 100
"""More tables than these are annotations of single images, say."""


def load(path: Path, size: Size, resize_mode: preprocessing.ResizeMode, progress: Progress) -> Decoded:
    """Labelled images of a folder, an archive of one, or a table of labels and the images beside it.

    Args:
        path: the folder, archive or table (.csv, .tsv).
        size, resize_mode: how images are brought to one shape; see `training.data.dataset.load`.
        progress: called while images are decoded.

    Raises:
        UsageError: it is none of these.
        DataError: there are no images, or the folders can be read in more than one way.
    """
    file_checksum = sources.sha256(path) if sources.is_archive(path) and path.is_file() else ""
    known = cache.read_contents(file_checksum) if file_checksum else None
    decoded = None
    if known:
        decoded = cache.read(cache.images_folder(known.key, chosen_size(size, known.own_size), resize_mode))
    if known is None or decoded is None:
        table = path.name if path.suffix.lower() in TABLES else None
        try:
            with sources.opened(path.parent if table else path) as listing:
                arranged = _arranged(listing, table)
                items = _hashed(arranged.places, listing)
                problems = (*listing.problems, *arranged.problems, *duplicates.find(map(_copy, items)))
                known = cache.Contents(checksum(items), own_size(items), arranged.notes, problems)
                wanted = chosen_size(size, known.own_size)
                folder = cache.images_folder(known.key, wanted, resize_mode)
                decoded = cache.read(folder) or decode(items, wanted, resize_mode, progress, folder)
        except DataError as error:
            raise DataError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
        if file_checksum:
            cache.write_contents(file_checksum, known)
    return replace(
        decoded,
        file_checksum=file_checksum,
        notes=known.notes,
        problems=(*decoded.problems, *known.problems),
    )


def _arranged(listing: Listing, table: str | None) -> Layout:
    """Which split and class each image is of: by folders, or by tables of labels."""
    images = listing.names("image")
    visible = [name for name in images if not any(files.is_left_out(part) for part in name.split("/"))]
    label_tables = list(_tables(listing, visible, table))
    if table is not None:
        if not label_tables:
            raise DataError(
                f"{table} is no table of labels: expected a row an image, with its file and its label, and these "
                "files beside it"
            )
        return tables.arrange(label_tables, visible)
    try:
        by_folder = layout.arrange(images, listing.names("folder"), listing.names("other", "table"))
    except DataError as error:
        if not label_tables:
            others = [entry.name for entry in listing.entries if entry.kind == "table"]
            said = f"; {named(others)} is no table of files and labels" if others else ""
            raise DataError(f"{error}{said}") from None
        return tables.arrange(label_tables, visible)
    if not label_tables:
        return by_folder
    if len({place.label for place in by_folder.places}) < 2:
        return tables.arrange(label_tables, visible)
    by_table: dict[str, Place] = {}
    for place in (place for listed in label_tables for place in tables.beside(listed, by_folder)):
        other = by_table.setdefault(place.name, place)
        if other != place:
            raise DataError(
                f"tables give {place.name} to {other.split}/{other.label} and to {place.split}/{place.label}: keep one "
                "of them, or give the one that counts as --data"
            )
    if by_table:  # test/ holds images without class folders, and a table has their classes
        rest = [name for name in images if name not in by_table]
        by_folder = layout.arrange(rest, listing.names("folder"), listing.names("other", "table"))
        by_folder = replace(by_folder, places=(*by_folder.places, *by_table.values()))
    notes = list(by_folder.notes)
    for listed in label_tables:
        if not listed.is_certain:
            notes.append(f"{listed.name} is not used: the classes are the folders")
            continue
        image = tables.disagreement(listed, by_folder)
        if image:
            (said,) = {place.label for place in by_folder.places if place.name == image}
            raise DataError(
                f"{listed.name} and the folders do not agree on the class of {image} "
                f"({' or '.join(listed.labels[image])}, or {said}): give {listed.name} itself as --data, or move "
                "it elsewhere"
            )
        count = len(by_table.keys() & listed.labels.keys())
        more = f", and gives {count:,} images outside them their classes" if count else ""
        notes.append(f"the classes are the folders; {listed.name} says the same{more}")
    return replace(by_folder, notes=tuple(notes))


def _tables(listing: Listing, images: list[str], chosen: str | None) -> Iterator[tables.Table]:
    """The tables of labels; none where there are so many tables that they are something else."""
    entries = [entry for entry in listing.entries if entry.kind == "table"]
    if chosen:
        entries = [entry for entry in entries if entry.name == chosen]
    else:
        entries = [
            entry
            for entry in entries
            if not files.is_litter(entry.name.rpartition("/")[2]) and "submission" not in entry.name.lower()
        ]
    if not 0 < len(entries) <= _MOST_TABLES:
        return
    find = tables.Finder(images)
    for entry in entries:
        try:
            data = entry.read()
        except (OSError, ImageError):
            continue
        read = tables.read(entry.name, data, find) if len(data) <= _LARGEST_TABLE else None
        if read:
            yield read


def _hashed(places: Iterable[Place], listing: Listing) -> list[Item]:
    """The images with their SHA-256, in an order that a folder and an archive of it share."""
    entries = {entry.name: entry for entry in listing.entries}
    ordered = sorted(places, key=lambda place: (place.split, natural(place.label), place.key.split("/"), place.name))

    def hashed(place: Place) -> Item:
        read = entries[place.name].read
        try:
            return Item(place, read, hashlib.sha256(read()).hexdigest())
        except (OSError, ImageError):  # it is named as unreadable when it is decoded
            return Item(place, read, "")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(in_order(pool, hashed, ordered))


def _copy(item: Item) -> Copy:
    return Copy(item.place.name, item.place.split, item.place.label, item.digest)
