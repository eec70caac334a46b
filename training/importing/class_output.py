"""Which output of a graph has a number for each class, and what that number is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import onnx

from training.importing.errors import CannotImport
from training.importing.source import Source

Array = npt.NDArray[Any]
Kind = Literal["logits", "probabilities", "log-probabilities", "logit", "probability"]

_MOVES: Final = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Cast"})
"""Operators that change no value."""
_ENDS: Final[dict[str, Kind]] = {
    "Softmax": "probabilities",
    "LogSoftmax": "log-probabilities",
    "Sigmoid": "probability",
}
_TOLERANCE: Final = 1e-2
"""By which probabilities that float16 or integers give may miss a sum of 1."""


@dataclass(frozen=True)
class ClassOutput:
    """The output that has the answer.

    Attributes:
        name: of the tensor.
        kind: what it gives; `logit` and `probability` are one number, of the second of two classes.
        logits: the tensor that the logits are read from: what the last Softmax, LogSoftmax or Sigmoid reads, or the
            output itself.
        has_softmax: whether there is such a node. Without one, the logits of probabilities are their logarithms.
        is_flat: whether that tensor is known to be (N, classes).
    """

    name: str
    kind: Kind
    logits: str
    has_softmax: bool
    is_flat: bool

    def probabilities(self, values: Array) -> Array:
        """The probabilities, float64 (N, classes), that the output's values stand for."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        if self.kind == "probabilities":
            return flat
        if self.kind == "probability":
            return np.concatenate([1 - flat, flat], 1)
        if self.kind == "logit":
            flat = np.concatenate([np.zeros_like(flat), flat], 1)
        powers = np.exp(flat - flat.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))


def find(source: Source, measured: Mapping[str, Array], classes: int, name: str | None = None) -> ClassOutput:
    """Find the output with a number for each class.

    Args:
        source: the file.
        measured: what its outputs give for several images; (N, ...) by name.
        classes: how many names there are.
        name: the output, where the user says which.

    Raises:
        CannotImport: no output has that many numbers an image, or several have; it is that of a detector, or of a model
            with several labels an image; its values are not finite.
    """
    chosen = _choose(source, measured, classes, name)
    values = measured[chosen]
    if not np.isfinite(values).all():
        raise CannotImport(f"{source.path}: output {chosen!r} has values that are not finite: its weights are damaged")
    end = _end(source, chosen)
    flat = values.reshape(len(values), -1).astype(np.float64)
    if flat.shape[1] == 1:
        is_sigmoid = end is not None and end.op_type == "Sigmoid"
        logits = end.input[0] if end is not None and is_sigmoid else chosen
        return ClassOutput(chosen, "probability" if is_sigmoid else "logit", logits, is_sigmoid, is_flat=False)
    if end is not None and end.op_type == "Sigmoid":
        raise CannotImport(
            f"{source.path}: output {chosen!r} ends in a Sigmoid of each class, so an image may have several; a bundle "
            "gives one: if each image has one, export the model without the Sigmoid"
        )
    is_softmax = end is not None and end.op_type == "Softmax" and _sums_to_one(flat)
    is_log = end is not None and end.op_type == "LogSoftmax" and _sums_to_one(np.exp(flat))
    if end is not None and (is_softmax or is_log):
        direct = end.output[0] == chosen and values.ndim == 2
        return ClassOutput(chosen, _ENDS[end.op_type], end.input[0], has_softmax=True, is_flat=direct)
    kind: Kind = "probabilities" if _sums_to_one(flat) and (flat >= 0).all() else "logits"
    return ClassOutput(chosen, kind, chosen, has_softmax=False, is_flat=values.ndim == 2)


def _choose(source: Source, measured: Mapping[str, Array], classes: int, name: str | None) -> str:
    floats = {key: values for key, values in measured.items() if np.issubdtype(values.dtype, np.floating)}
    fitting = [key for key, values in floats.items() if _fits(values, classes)]
    if name is not None:
        if name not in {value.name for value in source.session.get_outputs()}:
            raise CannotImport(f"{source.path} has no output {name!r}: it has {_listed(source)}")
        if name not in fitting:
            raise CannotImport(
                f"{source.path}: output {name!r} has not one number for each of {classes} classes: {_listed(source)}"
            )
        return name
    if not fitting:
        raise CannotImport(_why_none(source, floats, classes))
    # the logits and the softmax of them are one answer
    same = {end.input[0] for key in fitting if (end := _end(source, key)) is not None} & set(fitting)
    rest = [key for key in fitting if (end := _end(source, key)) is None or end.input[0] not in same]
    if len(rest) > 1:
        names = ", ".join(map(repr, fitting))
        raise CannotImport(f"{source.path} has several outputs for {classes} classes ({names}): add --output-name NAME")
    return rest[0]


def _fits(values: Array, classes: int) -> bool:
    sides = values.shape[1:]
    most = max(sides, default=0)
    is_list = int(np.prod(sides)) == most  # all other axes have one place
    return is_list and (most == classes or (most == 1 and classes == 2))


def _why_none(source: Source, floats: Mapping[str, Array], classes: int) -> str:
    lists = {key: int(np.prod(v.shape[1:])) for key, v in floats.items() if v.ndim > 1 and _fits(v, max(v.shape[1:]))}
    if len(lists) == 1:
        ((name, count),) = lists.items()
        return (
            f"{source.path} tells {count} classes apart (output {name!r}), and the labels name {classes}: name each "
            "class once, in the order of the output"
        )
    return (
        f"{source.path} is no classifier: no output has one number for each of {classes} classes; it gives "
        f"{_listed(source)}. Detection and segmentation models do not fit"
    )


def _listed(source: Source) -> str:
    shapes = (
        f"{value.name!r} ({', '.join('?' if dim is None else str(dim) for dim in value.shape)})"
        for value in source.session.get_outputs()
    )
    return ", ".join(shapes)


def _end(source: Source, tensor: str) -> onnx.NodeProto | None:
    """The Softmax, LogSoftmax or Sigmoid that an output has its values from."""
    while (node := source.producers.get(tensor)) is not None:
        if node.op_type in _ENDS and node.domain in ("", "ai.onnx"):
            return node
        if node.op_type not in _MOVES:
            return None
        tensor = node.input[0]
    return None


def _sums_to_one(values: Array) -> bool:
    return bool(np.abs(values.sum(1) - 1).max() < _TOLERANCE)
