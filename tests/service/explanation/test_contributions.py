from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contract.network.errors import CannotExplain
from contract.network.form import Form
from contract.preprocessing import Pixels
from service.explanation.contributions import Head
from service.explanation.question import Question
from service.explanation.subject import Subject
from tests.support import graphs
from tests.support.models import COLOURS, colour_bundle, greedy_bundle


def test_contributions_and_the_bias_sum_to_the_logit(recipe: Subject, images: Pixels) -> None:
    head = Head(recipe.served)
    logits, _ = recipe.served.answers(images[:3])
    for image, own in zip(images[:3], logits, strict=True):
        for target in range(len(own)):
            found = head.contributions(image[None], Question(target))
            assert found.score == pytest.approx(own[target], abs=1e-5)
            assert found.sum + found.bias == pytest.approx(own[target], abs=1e-4)


def test_they_explain_the_difference_of_two_classes(shipped: Subject, cat: Pixels) -> None:
    head = Head(shipped.served)
    logits, _ = shipped.served.answers(cat)
    found = head.contributions(cat, Question(3, 5))
    assert found.sum + found.bias == pytest.approx(logits[0, 3] - logits[0, 5], abs=1e-4)
    assert found.layer == "relu10"
    assert found.pooling == "max"
    assert found.values.shape == found.maps.shape == (4, 4, 160)
    assert found.by_channel.sum() == pytest.approx(found.sum, abs=1e-5)
    assert found.heat_map().values.sum() == pytest.approx(found.sum, abs=1e-5)


def test_a_channel_that_is_switched_off_takes_its_contribution_with_it(shipped: Subject, cat: Pixels) -> None:
    head, question = Head(shipped.served), Question(3, 5)
    found = head.contributions(cat, question)
    channels = np.abs(found.by_channel).argsort()[::-1][:8].tolist()
    logits, probabilities = head.without(found.maps, [[channel] for channel in channels])
    lost = found.score - logits @ question.weights(10)
    np.testing.assert_allclose(lost, found.by_channel[channels], atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    support = head.support(found.maps, channels)
    np.testing.assert_allclose(support @ question.weights(10), found.by_channel[channels], atol=1e-5)
    (together,) = head.without(found.maps, [channels])[0] @ question.weights(10)
    assert found.score - together == pytest.approx(found.by_channel[channels].sum(), abs=1e-5)


def test_what_is_served_in_int8_is_told_with_its_rounding(quantised: Subject, cat: Pixels) -> None:
    found = Head(quantised.served).contributions(cat, Question(3))
    (logit,) = quantised.served.answers(cat)[0][:, 3]
    assert found.score == logit
    assert found.sum + found.bias + found.rounding == pytest.approx(logit, abs=1e-6)
    assert 1e-4 < abs(found.rounding) < 0.5  # the logits are rounded, too


def test_a_pooling_over_the_image_itself_tells_of_its_colours(tmp_path: Path) -> None:
    form = Form(colour_bundle(tmp_path).model, COLOURS)
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[:, :4, :, 0] = 255
    found = Head(form).contributions(image, Question(0))
    assert found.layer == "images"
    assert found.pooling == "mean"
    np.testing.assert_allclose(found.by_channel, [5, 0, 0], atol=1e-5)
    assert found.heat_map().values[:4].sum() == pytest.approx(5, abs=1e-5)


def test_a_head_that_is_not_linear_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotExplain, match="not linear"):
        Head(Form(greedy_bundle(tmp_path, gigabytes=0.001).model, COLOURS))


def test_a_hidden_layer_is_explained_at_its_output(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hidden, last, bias = (rng.normal(0, 0.1, shape).astype(np.float32) for shape in ((48, 5), (5, 3), (3,)))
    nodes: list[graphs.NodeSpec] = [
        ("Flatten", ["images"], "a", {}),
        ("Gemm", ["a", hidden], "b", {}),
        ("Relu", ["b"], "c", {}),
        ("Gemm", ["c", last, bias], "logits", {}),
        ("Softmax", ["logits"], "probabilities", {}),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(graphs.proto((4, 4, 3), nodes, "probabilities").SerializeToString())
    form = Form(path, COLOURS)
    image = rng.integers(0, 256, (1, 4, 4, 3))
    found = Head(form).contributions(image.astype(np.uint8), Question(2))
    values = np.maximum(image.reshape(1, 48).astype(np.float32) @ hidden, 0)[0]
    assert (found.layer, found.pooling) == ("relu1", "none")
    np.testing.assert_allclose(found.by_channel, values * last[:, 2], rtol=1e-3, atol=1e-4)
    assert found.bias == pytest.approx(bias[2], abs=1e-5)
