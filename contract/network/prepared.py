"""What stands beside a bundle for looking inside it: what its channels respond to, and its training images' features.

    inside/index.json       of which model it is, from which data, and which layers there are
    inside/<layer>.npz      by channel: the training images that it responds to most and least, and one that was made
    inside/embeddings.npy   float16 (N, features), of the training images
    inside/targets.npy      int64 (N,), their classes
    inside/numbers.npy      int64 (N,), their places among the training images
    inside/names.json       the names of their files by number, where they are from files
    inside/thumbnails.npz   encoded images by number; only where training images may be kept

Written by `kernelscope features`, read by the service.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from contract.bundle import MODEL
from contract.network.graph import Array, Floats
from contract.preprocessing import Pixels

FOLDER: Final = "inside"
FORMAT: Final = 1
_INDEX: Final = "index.json"
_NAMES: Final = "names.json"
_QUALITY: Final = 90
"""Of thumbnails, which are JPEG."""


@dataclass(frozen=True)
class Index:
    """Of which model this is, and from which data.

    Attributes:
        model: SHA-256 of `model.onnx`.
        data: the name of the training images.
        images: how many there are.
        layers: the ids of the layers whose channels are shown.
        format: of these files.
    """

    model: str
    data: str
    images: int
    layers: tuple[str, ...]
    format: int = FORMAT


@dataclass(frozen=True)
class Examples:
    """The training images that channels respond to most, or least; strongest first.

    Attributes:
        images: their numbers, int64 (channels, k).
        values: the highest (lowest) value of the channel's map, float32 (channels, k).
        places: its row and column, int64 (channels, k, 2).
    """

    images: npt.NDArray[np.int64]
    values: Floats
    places: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Channels:
    """What the channels of a layer respond to.

    Attributes:
        strongest, weakest: training images; of the weakest the value is the lowest of the map.
        synthetic: an image that was made for each channel, uint8 (channels, H, W, 3).
        reached: the highest value of each channel's map on it; NaN where none was made.
        stable: whether at least half of that remains when the image is shifted, turned and scaled a little.
    """

    strongest: Examples
    weakest: Examples
    synthetic: Pixels
    reached: Floats
    stable: npt.NDArray[np.bool_]


def checksum(folder: Path) -> str:
    """SHA-256 of a bundle's model."""
    return hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()


class Writer:
    """Writes beside a bundle, in a folder of its own that takes its place in the end.

    Args:
        bundle: the bundle's folder.
    """

    def __init__(self, bundle: Path) -> None:
        self._bundle, self._draft = bundle, bundle / f".{FOLDER}.draft"
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir()

    def channels(self, layer: str, channels: Channels) -> None:
        """Write what a layer's channels respond to."""
        arrays: dict[str, Array] = {
            f"{kind}_{name}": value
            for kind in ("strongest", "weakest")
            for name, value in asdict(getattr(channels, kind)).items()
        }
        arrays |= {"synthetic": channels.synthetic, "reached": channels.reached, "stable": channels.stable}
        np.savez_compressed(self._draft / f"{layer}.npz", allow_pickle=False, **arrays)

    def embeddings(self, vectors: Floats, targets: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> None:
        """Write training images' features, classes and numbers."""
        np.save(self._draft / "numbers.npy", numbers)
        np.save(self._draft / "embeddings.npy", vectors.astype(np.float16))
        np.save(self._draft / "targets.npy", targets)

    def names(self, names: Mapping[int, str]) -> None:
        """Write the names of training images' files, by number."""
        text = {
            number: name.encode(errors="replace").decode() for number, name in names.items()
        }  # files' are any bytes
        (self._draft / _NAMES).write_text(json.dumps(text, indent=0) + "\n", encoding="utf-8")

    def thumbnails(self, images: Iterable[tuple[int, Pixels]]) -> None:
        """Write training images, by number."""
        encoded = {str(number): np.frombuffer(_jpeg(image), np.uint8) for number, image in images}
        np.savez(self._draft / "thumbnails.npz", allow_pickle=False, **encoded)

    def finish(self, index: Index) -> Path:
        """Put all of it in its place; returns the folder."""
        (self._draft / _INDEX).write_text(json.dumps(asdict(index), indent=2) + "\n", encoding="utf-8")
        final = self._bundle / FOLDER
        if final.exists():
            old = self._bundle / f".{FOLDER}.old"
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
            self._draft.rename(final)
            shutil.rmtree(old)
        else:
            self._draft.rename(final)
        return final


class Prepared:
    """What stands beside a bundle.

    Args:
        bundle: the bundle's folder.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it cannot be read, is of another format, or of another model.
    """

    def __init__(self, bundle: Path) -> None:
        self._folder = bundle / FOLDER
        raw: dict[str, Any] = json.loads((self._folder / _INDEX).read_text(encoding="utf-8"))
        if raw.get("format") != FORMAT:
            raise ValueError(f"{self._folder} has format {raw.get('format')}; this version reads {FORMAT}")
        self.index = Index(**{**raw, "layers": tuple(raw["layers"])})
        if self.index.model != checksum(bundle):
            raise ValueError(f"{self._folder} was made for another {MODEL}")

    def channels(self, layer: str) -> Channels:
        """What a layer's channels respond to."""
        with np.load(self._folder / f"{layer}.npz") as arrays:
            strongest, weakest = (
                Examples(arrays[f"{kind}_images"], arrays[f"{kind}_values"], arrays[f"{kind}_places"])
                for kind in ("strongest", "weakest")
            )
            return Channels(strongest, weakest, arrays["synthetic"], arrays["reached"], arrays["stable"])

    def embeddings(self) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Training images' features, (N, features), read where they are needed, their classes, and their numbers.

        Raises:
            FileNotFoundError: the network has no last features.
        """
        vectors = np.load(self._folder / "embeddings.npy", mmap_mode="r")
        return vectors, np.load(self._folder / "targets.npy"), np.load(self._folder / "numbers.npy")

    @cached_property
    def names(self) -> dict[int, str]:
        """The names of training images' files by number; empty where they are from no files."""
        path = self._folder / _NAMES
        if not path.is_file():
            return {}
        return {int(number): name for number, name in json.loads(path.read_text(encoding="utf-8")).items()}

    def thumbnails(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Encoded training images by number, as far as they were kept."""
        path = self._folder / "thumbnails.npz"
        if not path.is_file():
            return {}
        with np.load(path) as kept:
            return {number: kept[str(number)].tobytes() for number in numbers if str(number) in kept}


def _jpeg(image: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()
