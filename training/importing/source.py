"""An ONNX file as it came: read whole, and opened with onnxruntime to be asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import onnx
import onnxruntime
from onnx import inliner, version_converter

from contract.cpu import cores
from contract.session import first_line
from training.export import model_file
from training.importing.errors import CannotImport

OLDEST_OPSET: Final = 9
"""Older graphs are converted: what is put around them is written in this opset's operators."""
_CONVERTED_TO: Final = 13
_LARGEST: Final = 2**31 - 2**20
"""Bytes: a bundle's model is one file, which protobuf limits to 2 GiB."""
_DOMAINS: Final = frozenset(
    {
        "", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft", "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)  # fmt: skip
"""Operator sets that onnxruntime comes with."""
_EXPORT: Final = "export it to ONNX first (docs/import.md says how)"
_OTHERS: Final = (
    (b"PK\x03\x04", "a zip archive, as PyTorch, Keras and TorchServe save models"),
    (b"\x89HDF", "an HDF5 file, as Keras saved models"),
    (b"\x80\x02", "a Python pickle, as PyTorch saved models"),
)


@dataclass(frozen=True)
class Source:
    """An ONNX file.

    Attributes:
        path: of the file.
        proto: all of it, weights in files of their own included; functions are inlined, opsets older than
            `OLDEST_OPSET` converted.
        checksum: SHA-256 of the file.
        session: of the file as it is.
    """

    path: Path
    proto: onnx.ModelProto
    checksum: str
    session: onnxruntime.InferenceSession

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that gives a tensor."""
        return {name: node for node in self.proto.graph.node for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read a tensor."""
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.proto.graph.node:
            for name in dict.fromkeys(node.input):
                consumers.setdefault(name, []).append(node)
        return consumers

    @cached_property
    def constants(self) -> dict[str, onnx.TensorProto]:
        """The tensors that are the same for every image."""
        tensors = {tensor.name: tensor for tensor in self.proto.graph.initializer}
        for node in self.proto.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensors[node.output[0]] = node.attribute[0].t
        return tensors

    @property
    def opset(self) -> int:
        """Of ONNX's own operators, as the file has it."""
        return _opset(self.proto)


def read(path: Path) -> Source:
    """Read an ONNX file and open it.

    Raises:
        CannotImport: there is no such file, it is not ONNX, its weights are missing, it is too large, it has operators
            of its own, or it does not load.
    """
    if path.is_dir():
        raise CannotImport(f"{path} is a folder: give the .onnx file in it")
    if not path.is_file():
        raise CannotImport(f"there is no file {path}: give an .onnx file")
    proto = _parse(path)
    _load_weights(path, proto)
    if proto.ByteSize() > _LARGEST:
        raise CannotImport(f"{path} has {proto.ByteSize() / 1e9:.1f} GB of weights; a bundle has 2 GB at most")
    own = {(node.domain, node.op_type) for node in model_file.nodes(proto) if node.domain not in _DOMAINS}
    own -= {(function.domain, function.name) for function in proto.functions}
    if own:
        names = ", ".join(sorted(f"{domain}::{name}" for domain, name in own))
        raise CannotImport(f"{path} has operators of its own ({names}): export it with ONNX's operators alone")
    session = _open(path)
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return Source(path, _current(path, proto), checksum, session)


def _parse(path: Path) -> onnx.ModelProto:
    with path.open("rb") as file:
        head = file.read(64)
    kind = next((kind for start, kind in _OTHERS if head.startswith(start)), None)
    if kind:
        raise CannotImport(f"{path} is not an ONNX file but {kind}: {_EXPORT}")
    if head.startswith(b"version https://git-lfs"):
        raise CannotImport(f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull`")
    try:
        proto = onnx.load(path, load_external_data=False, format="protobuf")
    except Exception:  # protobuf's own, of which neither onnx nor Python says a base
        raise CannotImport(f"{path} is not an ONNX file, or is cut short: {_EXPORT}") from None
    if not proto.ir_version or not proto.graph.node:
        raise CannotImport(f"{path} is not an ONNX file, or holds no network: {_EXPORT}")
    return proto


def _load_weights(path: Path, proto: onnx.ModelProto) -> None:
    """Put weights that are in files of their own into the model."""
    outside = [tensor for tensor in proto.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    files = {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}
    missing = sorted(name for name in files if not (path.parent / name).is_file())
    if missing:
        raise CannotImport(f"the weights of {path.name} are in {missing[0]}, which is not beside it: put it there")
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except Exception as error:  # onnx raises its own, OSError or ValueError
        raise CannotImport(f"the weights of {path} cannot be read: {first_line(error)}") from None


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cores(), 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        raise CannotImport(f"onnxruntime does not load {path}: {first_line(error)}") from None


def _current(path: Path, proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without functions, and of an opset that is not older than `OLDEST_OPSET`."""
    try:
        if proto.functions:
            proto = inliner.inline_local_functions(proto)
        if _opset(proto) < OLDEST_OPSET:
            proto = version_converter.convert_version(proto, _CONVERTED_TO)
    except Exception as error:  # what it raises has no base of its own
        raise CannotImport(
            f"{path} is of opset {_opset(proto)} and cannot be converted ({first_line(error)}): export it with opset 17"
        ) from None
    return proto


def _opset(proto: onnx.ModelProto) -> int:
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)
