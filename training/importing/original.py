"""The model as it came, run on images: what its bundle is compared with."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.preprocessing import Pixels
from contract.session import first_line
from training.importing.errors import CannotImport
from training.importing.image_input import ImageInput
from training.importing.preparation import Preparation
from training.importing.source import Source

Array = npt.NDArray[Any]

_SEED: Final = 20180521
_IMAGES: Final = 16


class Original:
    """A file, and how its input is made of pixels.

    Args:
        source: the file.
        image_input: its input.
        preparation: how pixels become it.
    """

    def __init__(self, source: Source, image_input: ImageInput, preparation: Preparation) -> None:
        self._source, self._input, self._preparation = source, image_input, preparation

    def answers(self, pixels: Pixels) -> dict[str, Array]:
        """All outputs for pixels, uint8 (N, H, W, 3), each image run by itself; (N, ...) by name.

        An output that has no axis for the batch is left out.

        Raises:
            CannotImport: it does not run on images of this size.
        """
        names = [value.name for value in self._source.session.get_outputs()]
        batch = self._input.batch or 1
        outputs: dict[str, list[Array]] = {name: [] for name in names}
        for image in pixels:
            prepared = np.repeat(self._preparation.array(image[None]), batch, 0)
            try:
                values = self._source.session.run(names, {self._input.name: prepared})
            except Exception as error:  # onnxruntime's exceptions have no base of their own
                size = f"{self._preparation.height}x{self._preparation.width}"
                raise CannotImport(
                    f"{self._source.path} does not run on an image of {size}: {first_line(error)}"
                ) from None
            for name, value in zip(names, values, strict=True):
                if isinstance(value, np.ndarray) and value.ndim and len(value) == batch:
                    outputs[name].append(value[0])
        return {
            name: np.stack(values)
            for name, values in outputs.items()
            if len(values) == len(pixels) and len({value.shape for value in values}) == 1
        }


def images(height: int, width: int, count: int = _IMAGES) -> Pixels:
    """Images to try a model with where there are none of its own: noise, and smooth colours; uint8 (N, H, W, 3)."""
    rng = np.random.default_rng(_SEED)
    rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    made = []
    for number in range(count):
        if number % 2:
            made.append(rng.uniform(0, 255, (height, width, 3)))
        else:
            corners = rng.uniform(0, 255, (3, 3))
            made.append(corners[0] * (1 - rows) + corners[1] * rows * (1 - columns) + corners[2] * rows * columns)
    return np.asarray(np.clip(np.rint(np.stack(made)), 0, 255), np.uint8)
