"""Answers as Parquet: the columns, a part's file, and all parts in one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contract.card import Card
from contract.errors import ImageError
from service.classify.errors import JobError

_ROWS: Final = 2**16
"""Of a row group of the merged file."""
_CODEC: Final = "zstd"


def schema(card: Card, metadata: dict[str, str]) -> pa.Schema:
    """The columns.

    `file`; `label`, `index`, `probability`, `unsure` of the most probable class; `top`, the most probable few; `code`
    and `error`, which say why an image has no answer.

    Args:
        card: the model's, for its labels.
        metadata: of which model the answers are.
    """
    label = pa.dictionary(pa.int32(), pa.string())
    answer = pa.struct([("label", pa.string()), ("index", pa.int32()), ("probability", pa.float32())])
    fields = [
        ("file", pa.string()),
        ("label", label),
        ("index", pa.int32()),
        ("probability", pa.float32()),
        ("unsure", pa.bool_()),
        ("top", pa.list_(answer)),
        ("code", pa.string()),
        ("error", pa.string()),
    ]
    return pa.schema(fields, {"labels": str(len(card.labels)), **metadata})


class Rows:
    """The rows of a part, as they come.

    Args:
        card: the model's.
        columns: from `schema`.
        top_k: classes to name.
    """

    def __init__(self, card: Card, columns: pa.Schema, top_k: int) -> None:
        self._card, self._columns, self._top_k = card, columns, top_k
        self._labels = pa.array(card.labels, pa.string())
        self._batches: list[pa.RecordBatch] = []

    def add(
        self, names: Sequence[str], errors: Sequence[Exception | None], probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Add images: their names, what is wrong with each, and (N, classes) of those that nothing is wrong with."""
        top = np.argsort(-probabilities, 1, kind="stable")[:, : self._top_k]
        values = np.take_along_axis(probabilities, top, 1)
        readable = np.array([error is None for error in errors])
        place = np.cumsum(readable) - 1  # of an image among those that are read

        def first(column: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
            spread = column[np.maximum(place, 0)] if len(column) else np.zeros(len(readable), column.dtype)
            return pa.array(spread, kind, mask=~readable)

        best = first(top[:, 0].astype(np.int32), pa.int32())
        counts = np.where(readable, top.shape[1], 0)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        answers = pa.StructArray.from_arrays(
            [
                self._labels.take(pa.array(top.ravel())),
                pa.array(top.ravel().astype(np.int32)),
                pa.array(values.ravel().astype(np.float32)),
            ],
            fields=list(self._columns.field("top").type.value_type),
        )
        self._batches.append(
            pa.record_batch(
                [
                    pa.array([_text(name) for name in names]),
                    pa.DictionaryArray.from_arrays(best, self._labels),
                    best,
                    first(values[:, 0], pa.float32()),
                    first(values[:, 0] < self._card.unsure_below, pa.bool_()),
                    pa.ListArray.from_arrays(offsets, answers, mask=pa.array(~readable)),
                    pa.array([_code(error) for error in errors], pa.string()),
                    pa.array([error and _message(error) for error in errors], pa.string()),
                ],
                schema=self._columns,
            )
        )

    def write(self, path: Path) -> None:
        """Write a part: under another name first, then renamed, so that it is there whole or not at all."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with draft.open("wb") as file:  # a path could be taken for an address
            pq.write_table(pa.Table.from_batches(self._batches, self._columns), file, compression=_CODEC)
        _settle(draft, path)


def rows(path: Path) -> int:
    """How many rows a file has; -1 where there is no whole file."""
    try:
        with path.open("rb") as file:
            return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowInvalid):
        return -1


def keep(data: bytes, path: Path) -> None:
    """Write a part that another machine has made, whole or not at all."""
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(data)
    _settle(draft, path)


def merge(parts: Iterable[Path], target: Path, columns: pa.Schema, expected: int) -> None:
    """Write all parts into one file, of which a part of the rows is held at a time.

    Raises:
        JobError: there are more or fewer rows than expected.
    """
    draft = target.with_name(f".{target.name}.draft")
    held: list[pa.Table] = []
    written = 0
    with draft.open("wb") as target_file, pq.ParquetWriter(target_file, columns, compression=_CODEC) as writer:
        for part in parts:
            with part.open("rb") as file:
                held.append(pq.read_table(file).cast(columns))
            written += len(held[-1])
            if sum(map(len, held)) >= _ROWS:
                writer.write_table(pa.concat_tables(held).unify_dictionaries())
                held.clear()
        if held:
            writer.write_table(pa.concat_tables(held).unify_dictionaries())
    if written != expected:
        draft.unlink()
        raise JobError(f"the parts have {written:,} rows for {expected:,} images: begin anew in another folder")
    _settle(draft, target)


def _settle(draft: Path, target: Path) -> None:
    """Rename a file, which is on disk before its name is."""
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(name: str) -> str:
    """A file's name, of any bytes, as UTF-8: bytes that are not are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _code(error: Exception | None) -> str | None:
    if error is None:
        return None
    return error.code if isinstance(error, ImageError) else "unreadable_file"


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return _text(str(error)) or type(error).__name__
