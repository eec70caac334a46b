from __future__ import annotations

import collections
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import DataError
from training.backbones import torch_file

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


class Global:
    """Something that a pickle names by module and name, as `torch.FloatStorage`."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Storage:
    def __init__(self, key: str, values: list[float]) -> None:
        self.key, self.values = key, values


class Tensor:
    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments: tuple[Any, ...] = (storage, offset, shape, strides, False, collections.OrderedDict())


class Writer(pickle._Pickler):  # the one in Python, since names of modules that are not there must be written
    write: Any

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Storage):
            return ("storage", Global("torch", "FloatStorage"), obj.key, "cpu", len(obj.values), None)
        return None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Global):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Tensor):
            self.save(Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)  # type: ignore[misc]


def torch_bytes(tensors: Any, storages: list[Storage], *, magic: int = MAGIC) -> bytes:
    out = io.BytesIO()
    for part in (magic, VERSION, {"little_endian": True}):
        pickle.dump(part, out, protocol=2)
    Writer(out, protocol=2).dump(tensors)
    pickle.dump([storage.key for storage in storages], out, protocol=2)
    for storage in storages:
        out.write(struct.pack("<q", len(storage.values)) + np.array(storage.values, "<f4").tobytes())
    return out.getvalue()


def test_tensors_are_views_of_storages(tmp_path: Path) -> None:
    storage = Storage("7", [0, 1, 2, 3, 4, 5, 6])
    tensors = collections.OrderedDict(
        plain=Tensor(storage, 1, (2, 3), (3, 1)),
        transposed=Tensor(storage, 1, (3, 2), (1, 3)),
        one=Tensor(storage, 6, (), ()),
    )
    path = tmp_path / "some.pth"
    path.write_bytes(torch_bytes(tensors, [storage]))
    read = torch_file.read(path)
    assert read["plain"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read["transposed"].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert read["one"] == 6
    assert read["plain"].dtype == np.float32


def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "attack.pth"
    path.write_bytes(torch_bytes({"weight": Attack()}, []))
    with pytest.raises(DataError, match="mkdir, which no tensor needs"):
        torch_file.read(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("tensor", "why"),
    [((0, (2, 4), (4, 1)), "beyond"), ((6, (2,), (1,)), "beyond"), ((0, (3,), (-1,)), "beyond")],
    ids=["too large", "offset", "backwards"],
)
def test_a_tensor_must_lie_in_its_storage(tmp_path: Path, tensor: Any, why: str) -> None:
    storage = Storage("0", [0, 1, 2, 3, 4, 5, 6])
    path = tmp_path / "some.pth"
    path.write_bytes(torch_bytes({"weight": Tensor(storage, *tensor)}, [storage]))
    with pytest.raises(DataError, match=why):
        torch_file.read(path)


def test_a_file_that_is_cut_short_or_of_another_format_is_an_error(tmp_path: Path) -> None:
    storage = Storage("0", [0, 1, 2, 3])
    whole = torch_bytes({"weight": Tensor(storage, 0, (4,), (1,))}, [storage])
    path = tmp_path / "some.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            torch_file.read(path)
    path.write_bytes(torch_bytes({}, [], magic=1))
    with pytest.raises(DataError, match=r"before version 1\.6"):
        torch_file.read(path)
