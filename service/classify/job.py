"""A job on disk: what it is of, which images it has, which parts are done.

predictions.parquet   all answers, once every part is done
.job/job.json         what the job is of; written once the listing is whole
.job/names, starts    the images (`listing`)
.job/parts/000000.parquet ...
.job/lock             held while somebody works on it
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from contract.bundle import Bundle
from service.classify import listing, table
from service.classify.errors import JobError
from service.classify.listing import Census
from service.classify.sources import Source

RESULT: Final = "predictions.parquet"
FORMAT: Final = 1
_FOLDER: Final = ".job"
_STATE: Final = "job.json"
_PARTS: Final = "parts"


@dataclass(frozen=True)
class Options:
    """What decides the answers.

    Attributes:
        top_k: classes to name.
        max_pixels: width times height of an image.
        max_seconds: of a processor's time that decoding an image may take.
    """

    top_k: int
    max_pixels: int
    max_seconds: float


@dataclass(frozen=True)
class State:
    """What a job is of.

    Attributes:
        source: where the images are.
        model: the model's name and version.
        model_digest: SHA-256 of its file and card.
        options: what decides the answers.
        images: how many there are.
        images_digest: of their names, sizes and times or tags.
        part_size: images of a part.
        format: of these files.
    """

    source: str
    model: str
    model_digest: str
    options: Options
    images: int
    images_digest: str
    part_size: int
    format: int = FORMAT

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.images // self.part_size)

    def images_of(self, part: int) -> int:
        """How many images a part has."""
        return min(self.part_size, self.images - part * self.part_size)


class Job:
    """A job, begun or gone on with.

    Attributes:
        output: the folder of the results.
        state: what it is of.
        is_new: whether it has just begun.
    """

    def __init__(self, output: Path, state: State, *, is_new: bool) -> None:
        self.output, self.state, self.is_new = output, state, is_new

    @property
    def result(self) -> Path:
        """The file with all answers."""
        return self.output / RESULT

    @property
    def folder(self) -> Path:
        """The folder of what the job needs while it runs."""
        return self.output / _FOLDER

    def part(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / _PARTS / f"{number:06}.parquet"

    def pending(self) -> list[int]:
        """The parts that are not done; what an interrupted process left of one is removed."""
        parts = self.folder / _PARTS
        parts.mkdir(exist_ok=True)
        for draft in parts.glob(".*"):
            draft.unlink(missing_ok=True)
        numbers = range(self.state.parts)
        return [number for number in numbers if table.rows(self.part(number)) != self.state.images_of(number)]

    def finish(self, bundle: Bundle) -> None:
        """Merge the parts, and remove what only the running job needs."""
        metadata = {"model": self.state.model, "model_digest": self.state.model_digest, "source": self.state.source}
        columns = table.schema(bundle.card, metadata)
        table.merge(map(self.part, range(self.state.parts)), self.result, columns, self.state.images)
        self.clean()

    def clean(self) -> None:
        """Remove the parts and the listing of a job that is done; `job.json` stays."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in {_STATE, "lock"}:
                path.unlink()


@contextmanager
def opened(
    output: Path,
    source: Source,
    bundle: Bundle,
    options: Options,
    *,
    workers: int,
    largest_part: int,
    progress: Callable[[int], None] = lambda images: None,
) -> Iterator[Job]:
    """Begin a job in a folder, or go on with the one there; no other process may work on it meanwhile.

    Args:
        output: the folder of the results.
        source: where the images are.
        bundle: the model.
        options: what decides the answers.
        workers: processes that share the work, for the size of parts.
        largest_part: images of a part.
        progress: called while images are listed.

    Raises:
        JobError: the folder holds other things, or a job of other images, another model or other options; another
            process works on it; there are no images.
    """
    folder = output / _FOLDER
    if output.exists() and not output.is_dir():
        raise JobError(f"{output} is not a folder: give one for the results")
    if not folder.is_dir() and output.is_dir() and any(output.iterdir()):
        raise JobError(f"{output} is not empty and holds no job: give a new folder for the results")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JobError(f"another process works on {output}: wait for it, or give another folder") from None
        there = _read(folder / _STATE)
        if there is None:
            state = _begin(folder, source, bundle, options, workers=workers, largest=largest_part, progress=progress)
            yield Job(output, state, is_new=True)
        else:
            _check_same(output, there, source, bundle, options)
            yield Job(output, there, is_new=False)


def digest(bundle: Bundle) -> str:
    """SHA-256 of a bundle's model and card, as `Engine.digest`."""
    return hashlib.sha256(bundle.model.read_bytes() + bundle.card.to_json().encode()).hexdigest()


def _begin(
    folder: Path,
    source: Source,
    bundle: Bundle,
    options: Options,
    *,
    workers: int,
    largest: int,
    progress: Callable[[int], None],
) -> State:
    for path in folder.iterdir():  # of a job that ended while it listed its images
        if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        census = listing.write(source, folder, progress)
        if not census.images:
            raise JobError(f"{source.where} holds no images")
    except BaseException:
        _abandon(folder)
        raise
    state = State(
        source=source.where,
        model=_name(bundle),
        model_digest=digest(bundle),
        options=options,
        images=census.images,
        images_digest=census.digest,
        part_size=listing.part_size(census.images, workers, largest),
    )
    draft = folder / f".{_STATE}"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(state), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / _STATE)
    return state


def _abandon(folder: Path) -> None:
    """Leave nothing of a job that never began."""
    shutil.rmtree(folder)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _read(path: Path) -> State | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.get("format") != FORMAT:
            raise JobError(f"{path} is of format {raw.get('format')}; this version reads {FORMAT}: give a new folder")
        return State(**{**raw, "options": Options(**raw["options"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise JobError(f"{path} cannot be read: give a new folder for the results") from None


def _check_same(output: Path, there: State, source: Source, bundle: Bundle, options: Options) -> None:
    """Raise `JobError` where a job would go on with something else than it began with."""
    anew = "give a new folder for the results"
    if there.source != source.where:
        raise JobError(f"{output} is a job of {there.source}, not of {source.where}: {anew}")
    if there.model_digest != digest(bundle):
        raise JobError(f"{output} was begun with {there.model}, and {_name(bundle)} is another model: {anew}")
    if there.options != options:
        was, now = asdict(there.options), asdict(options)
        changes = ", ".join(f"{key} {was[key]:g}, not {now[key]:g}" for key in was if was[key] != now[key])
        raise JobError(f"{output} was begun with {changes}: give the same options, or a new folder for the results")
    census = listing.count(source)
    if census != Census(there.images, there.images_digest):
        change = (
            f"{there.images:,} then, {census.images:,} now" if census.images != there.images else "some have changed"
        )
        raise JobError(f"the images of {there.source} are not those that {output} was begun with ({change}): {anew}")


def _name(bundle: Bundle) -> str:
    return f"{bundle.folder.absolute().parent.name}/{bundle.version or bundle.folder.name}"
