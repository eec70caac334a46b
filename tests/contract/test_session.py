from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest

from contract import bundle
from contract.cpu import cores
from contract.errors import BundleError
from contract.session import open_session
from tests.support.images import pixels
from tests.support.models import COLOURS, colour_bundle


def test_a_session_runs_the_model(tmp_path: Path) -> None:
    session = open_session(colour_bundle(tmp_path))
    (probabilities,) = session.run([bundle.PROBABILITIES], {bundle.INPUT: pixels(*COLOURS)})
    assert probabilities.argmax(1).tolist() == [0, 1, 2]


def test_threads_and_spinning_are_set(tmp_path: Path) -> None:
    model = colour_bundle(tmp_path)
    options = open_session(model).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (cores(), 1)
    options = open_session(model, threads=3, spin_microseconds=0).get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    options = open_session(model, spin_microseconds=50).get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "50"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": ("a", "b")}, "gives 3 classes; its card names 2"),
        ({"height": 9}, r"its card says uint8 \(N, 9, 8, 3\)"),
    ],
)
def test_a_model_that_is_not_what_its_card_says_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    model = colour_bundle(tmp_path)
    model = dataclasses.replace(model, card=dataclasses.replace(model.card, **change))
    with pytest.raises(BundleError, match=says):
        open_session(model)


def test_a_model_without_an_output_that_is_needed_is_refused(tmp_path: Path) -> None:
    model = colour_bundle(tmp_path)
    proto = onnx.load(model.model)
    (logits,) = (output for output in proto.graph.output if output.name == bundle.LOGITS)
    proto.graph.output.remove(logits)
    model.model.write_bytes(proto.SerializeToString())
    assert open_session(model)
    with pytest.raises(BundleError, match="has no output 'logits', which is needed here"):
        open_session(model, outputs=(bundle.LOGITS, bundle.PROBABILITIES))


def test_probabilities_without_a_dimension_are_refused(tmp_path: Path) -> None:
    model = colour_bundle(tmp_path)
    proto = onnx.load(model.model)
    (node,) = (node for node in proto.graph.node if node.output[0] == "probabilities")
    node.output[0] = "rows"
    proto.graph.node.append(onnx.helper.make_node("ReduceMax", ["rows"], ["probabilities"], keepdims=0))
    (output,) = (output for output in proto.graph.output if output.name == "probabilities")
    output.CopyFrom(onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, []))
    model.model.write_bytes(proto.SerializeToString())
    with pytest.raises(BundleError, match="gives 0 classes"):
        open_session(model)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    model = colour_bundle(tmp_path)
    model.model.write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"model\.onnx does not load: .+"):
        open_session(model)
