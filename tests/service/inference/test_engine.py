from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract import bundle
from contract.cpu import cores
from contract.errors import BundleError, UsageError
from service.inference.engine import Engine, providers
from service.inference.idle_cores import IdleCores
from tests.support.models import colour_bundle, colour_model, slow_bundle


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


def working(run: Callable[[], object]) -> int:
    """How many threads of this process work for more than a few milliseconds while something runs."""

    def nanoseconds() -> dict[str, int]:
        return {
            path.parent.name: int(path.read_text().split()[0]) for path in Path("/proc/self/task").glob("*/schedstat")
        }

    before = nanoseconds()
    run()
    return sum(now - before.get(thread, 0) > 5e6 for thread, now in nanoseconds().items())


@pytest.mark.skipif(cores() < 2 or not Path("/proc/self/schedstat").exists(), reason="needs two cores, and Linux")
def test_a_lone_image_uses_all_cores_while_the_other_processes_are_idle(tmp_path: Path) -> None:
    times, now = np.zeros(2), [10.0]
    ours, theirs = (IdleCores(times, number, lambda: now[0]) for number in range(2))
    engine = Engine(slow_bundle(tmp_path, seconds=0.3), 1, lone_threads=2, others=ours)
    image = np.full((1, 8, 8, 3), 255, np.uint8)  # warming would keep the second session only where it is faster
    assert working(lambda: engine.run(image)) == 2
    assert working(lambda: engine.run(np.repeat(image, 2, 0))) == 1
    theirs.begin()
    assert working(lambda: engine.run(image)) == 1
    theirs.end()
    assert working(lambda: engine.run(image)) == 1, "the next of its requests may come at once"
    now[0] += 1
    assert working(lambda: engine.run(image)) == 2


def test_an_image_beside_other_requests_has_one_thread(tmp_path: Path) -> None:
    engine = Engine(slow_bundle(tmp_path, seconds=0.3), 1, lone_threads=2, is_alone=lambda: False)
    assert working(lambda: engine.run(np.full((1, 8, 8, 3), 255, np.uint8))) == 1


def test_no_second_session_is_kept_where_a_run_has_all_threads(tmp_path: Path) -> None:
    engine = Engine(slow_bundle(tmp_path, seconds=0.3), 1, lone_threads=1)
    assert working(lambda: engine.run(np.full((1, 8, 8, 3), 255, np.uint8))) == 1
