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
        arrays: weights, the optimiser's variables, slow and best weights, what draws, in groups by name.
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


def take_up(folder: Path, asked: dict[str, Any], *, resume: bool) -> Checkpoint | None:
    """The run in a folder, to be gone on with; None where a new one begins.

    Args:
        folder: the run's.
        asked: what the run must be, by the names that its notes have for it: recipe, data, seed ...
        resume: whether to go on at all. A run whose model has been published is over either way: another one takes its
            place.

    Raises:
        UsageError: it is not to be gone on with, or it is another run than the one that is asked for.
        DataError: the checkpoint is damaged.
    """
    found = read(folder)
    if found is None:
        (folder / PUBLISHED).unlink(missing_ok=True)  # of a run that is gone
        return None
    notes = found.notes
    other = [key for key, wanted in asked.items() if notes.get(key) != wanted]
    if notes.get("done") and "precision" in other:  # it may have been trained where another one is better
        other.remove("precision")
    if (folder / PUBLISHED).is_file() and (other or not resume):
        # in this order: if it ends in between, nothing is left that could be taken for the new run's
        (folder / FILE).unlink()
        (folder / PUBLISHED).unlink()
        return None
    if not resume:
        state = "a finished run that was not published" if notes.get("done") else "an unfinished run"
        raise UsageError(
            f"{folder} holds {state}, at step {notes.get('step')}: add --resume to go on with it, "
            "or --run another-folder to start a new one"
        )
    for key in other:
        what = f"with {key} {notes.get(key)}, not {asked[key]}"
        if key == "form":
            what = f"of the recipe {asked['recipe']} with other settings, or as another version of kernelscope has it"
        raise UsageError(f"{folder} holds a run {what}: resume it as it was started, or give another --run")
    return found
