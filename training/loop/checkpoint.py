"""A run's state on disk, replaced in one atomic step: a crash leaves the old checkpoint or the new one, whole."""

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
"""A file beside the checkpoint that says where the run's model was published."""
LOCK: Final = "lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this block. Raises `UsageError` if another process has locked it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it however the process ends
        except BlockingIOError:
            raise UsageError(f"another run is writing to {folder}: wait for it, or give another --run") from None
        yield


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to continue as if it had not stopped.

    Attributes:
        arrays: weights, the optimiser's variables, slow and best weights, random states, in groups by name.
        notes: what JSON can hold: recipe, data, seed, epoch, step, seconds, history.
    """

    arrays: dict[str, list[npt.NDArray[Any]]]
    notes: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write to `folder`, over an older one. Raises `KernelscopeError` if the disk is full or read-only."""
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
    """Return the checkpoint in `folder`; None where there is none. Raises `DataError` if it is damaged."""
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
            f"{path} is damaged ({error or type(error).__name__}): remove it to start the run again"
        ) from None


def resume(folder: Path, expected: dict[str, Any], *, resume: bool) -> Checkpoint | None:
    """Return the checkpoint that a run continues from; None where a new run begins.

    Args:
        folder: the run's folder.
        expected: what the run must have been started with, as its notes name it: recipe, data, seed ...
        resume: whether a run may be continued. A run whose model has been published is over either way: a new run
            takes its place, unless it is the same run and `resume` is set.

    Raises:
        UsageError: there is a run and `resume` is not set, or it was started with other options.
        DataError: the checkpoint is damaged.
    """
    checkpoint = read(folder)
    if checkpoint is None:
        (folder / PUBLISHED).unlink(missing_ok=True)  # left by a run that was removed
        return None
    notes = checkpoint.notes
    different = [key for key, value in expected.items() if notes.get(key) != value]
    if notes.get("done") and "precision" in different:  # a finished run may be exported on other hardware
        different.remove("precision")
    if (folder / PUBLISHED).is_file() and (different or not resume):
        # in this order: after a crash in between, nothing is left that could be mistaken for the new run's
        (folder / FILE).unlink()
        (folder / PUBLISHED).unlink()
        return None
    if not resume:
        state = "a finished run that was not published" if notes.get("done") else "an unfinished run"
        raise UsageError(
            f"{folder} holds {state}, at step {notes.get('step')}: add --resume to continue it, "
            "or --run another-folder to start a new one"
        )
    for key in different:
        difference = f"with {key} {notes.get(key)}, not {expected[key]}"
        if key == "form":
            difference = (
                f"of the recipe {expected['recipe']} with other settings, or from another version of kernelscope"
            )
        raise UsageError(f"{folder} holds a run {difference}: resume it as it was started, or give another --run")
    return checkpoint
