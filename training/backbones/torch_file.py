"""Tensors from a file that `torch.save` wrote before PyTorch 1.6, read without PyTorch.

Such a file is five pickles (a magic number, the format's version, facts of the machine, the object, the storages' keys)
and behind them each storage: how many values it has, as int64, and the values. PyTorch's `torch/serialization.py`,
`_legacy_load`, is the reference. A pickle can run any code: this one may name nothing but what tensors are made of.
"""

from __future__ import annotations

import collections
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from contract.errors import DataError

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_LARGEST: Final = 2**30
"""Values that a storage may claim to have."""


@dataclass
class _Storage:
    """A flat run of values; they are read once the pickle has told which there are."""

    dtype: np.dtype[Any]
    size: int
    values: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; sizes, strides and the offset count values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> npt.NDArray[Any]:
        values = self.storage.values
        if values is None:
            raise ValueError("a tensor names a storage that the file does not hold")
        last = self.offset + sum((side - 1) * step for side, step in zip(self.shape, self.strides, strict=True))
        is_empty = 0 in self.shape
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or (last >= len(values) and not is_empty):
            raise ValueError("a tensor reaches beyond its storage")
        strides = tuple(step * values.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)
        return np.ascontiguousarray(view)


class _Unpickler(pickle.Unpickler):
    """Makes tensors of storages, dictionaries and numbers, and refuses everything else."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        kind = _CLASSES.get((module, name))
        if kind is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no tensor needs")
        return kind

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype) or not 0 <= size <= _LARGEST:
            raise pickle.UnpicklingError("it holds something else than whole storages")
        return self.storages.setdefault(key, _Storage(dtype, size))


def _rebuild(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_CLASSES: Final = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


def read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a state dict, by name, in PyTorch's layouts: a convolution's kernel is (out, in, H, W).

    Raises:
        DataError: the file is damaged, of another format, or holds other things than tensors.
    """
    try:
        with path.open("rb") as file:
            if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _VERSION:
                raise DataError(f"{path} is not of torch's format before version 1.6")
            _Unpickler(file).load()
            unpickler = _Unpickler(file)
            tensors = unpickler.load()
            for key in _Unpickler(file).load():
                storage = unpickler.storages[key]
                (size,) = np.fromfile(file, "<i8", 1)
                storage.values = np.fromfile(file, storage.dtype, size)
                if not size == storage.size == len(storage.values):
                    raise ValueError("it is cut short")
        return {name: tensor.array() for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path} cannot be read as tensors: {error}") from None
