"""A run's state on disk, replaced in one atomic step: after a crash there is the new one or the one before, whole."""

from __future__ import annotations

import fcntl
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.errors import DataError, KernelscopeError, UsageError

FILE: Final = "checkpoint.npz"
PUBLISHED: Final = "published"
"""A file that stands beside the checkpoint once the run's model has been published; it says where."""
LOCK: Final = "lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While this process alone writes to a run's folder. Raises `UsageError` where another does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it however the process ends
        except BlockingIOError:
            raise UsageError(f"another run is writing to {folder}: wait for it, or give another --run") from None
        yield


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had not stopped.

    Attributes:
        arrays: weights, the optimiser's variables and the slow weights, in groups by name.
        notes: what JSON can hold: recipe, data, seed, epoch, step, seconds, history.
    """

    arrays: dict[str, list[npt.NDArray[Any]]]
    notes: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write to `folder`, over what was there. Raises `KernelscopeError` where the disk does not take it."""
        target, new = folder / FILE, folder / f"{FILE}.new"
        flat = {f"{group}/{i:04d}": array for group, arrays in self.arrays.items() for i, array in enumerate(arrays)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                np.savez(file, **flat, notes=np.array(json.dumps(self.notes)))  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, target)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise KernelscopeError(f"the checkpoint cannot be written to {folder}: {error.strerror}") from None


def read(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`; None where there is none. Raises `DataError` where it is damaged."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, list[npt.NDArray[Any]]] = {}
            for key in sorted(set(file.files) - {"notes"}):
                arrays.setdefault(key.split("/")[0], []).append(file[key])
            return Checkpoint(arrays, json.loads(str(file["notes"])))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is damaged ({error or type(error).__name__}): remove it to start the run anew"
        ) from None
