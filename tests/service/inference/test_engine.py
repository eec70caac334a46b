from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from contract import bundle
from contract.cpu import cores
from contract.errors import BundleError, UsageError
from service.inference.engine import Engine, providers
from tests.support.models import colour_bundle, colour_model


def test_it_answers_with_probabilities(tmp_path: Path) -> None:
    engine = Engine(colour_bundle(tmp_path))
    engine.warm(5)
    red = np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0] = 255
    answer = engine.run(red)
    assert answer.shape == (2, 3)
    assert answer.argmax(1).tolist() == [0, 0]
    np.testing.assert_allclose(answer.sum(1), 1, rtol=1e-5)


def test_cores_are_those_this_process_may_use() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no CPU affinity")
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, mine)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (b"not a model", "does not load"),
        (colour_model(4, 4).SerializeToString(), "its card says"),
        (colour_model(classes=5).SerializeToString(), "5 classes"),
    ],
)
def test_a_model_unlike_its_card_is_refused(tmp_path: Path, model: bytes, says: str) -> None:
    of = colour_bundle(tmp_path)
    of.model.write_bytes(model)
    with pytest.raises(BundleError, match=says) as caught:
        Engine(bundle.read(of.folder))
    assert "\n" not in str(caught.value)


def test_providers_are_named_and_missing_ones_said_so() -> None:
    assert providers("cpu") == ["CPUExecutionProvider"]
    with pytest.raises(UsageError, match="choose from cpu, cuda, tensorrt, openvino"):
        providers("tpu")
    with pytest.raises(UsageError, match="'tensorrt' is not in the onnxruntime that is installed"):
        providers("tensorrt,cpu")
