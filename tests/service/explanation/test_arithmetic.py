from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from contract.network.errors import CannotExplain
from contract.network.form import Form
from contract.network.layers import Layer
from contract.preprocessing import Pixels
from service.explanation import arithmetic
from service.explanation.subject import Subject

_UNITS = 6


def parts_add_up(found: dict[str, Any]) -> float:
    """The value that the shown parts come to."""
    if found["kind"] == "convolution":
        total = 0.0
        for channel in found["channels"]:
            product = np.array(channel["input"]) * np.array(channel["kernel"])
            np.testing.assert_allclose(product, channel["product"], rtol=1e-5, atol=1e-6)
            assert product.sum() == pytest.approx(channel["sum"], rel=1e-4, abs=1e-5)
            total += channel["sum"]
        assert total == pytest.approx(found["sum"], abs=1e-5)
        return float(total + found["bias"])
    if found["kind"] == "dense":
        total = sum(term["input"] * term["weight"] for term in found["terms"])
        assert total == pytest.approx(found["sum"], abs=1e-4)
        return float(total + found["bias"])
    if found["kind"] in ("pooling", "global pooling"):
        window = np.array(found["input"])
        return float(window.max() if found["function"] == "maximum" else window.mean())
    if found["kind"] == "softmax":
        return float(found["terms"][found["unit"][2]]["exponential"] / found["sum"])
    values = [one["value"] for one in found["inputs"]]
    if found["kind"] == "activation":
        (x,) = values
        return float(
            {"Relu": max(0.0, x), "Clip": min(max(0.0, x), 6.0), "Gelu": x / (1 + np.exp(-1.702 * x))}[
                found["function"]
            ]
        )
    return float(np.sum(values) if found["operator"] == "Add" else np.prod(values))


def check(form: Form, image: Pixels, layer: Layer, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    maps = form.maps(layer, image)[0]
    for _ in range(_UNITS):
        unit = int(rng.integers(maps.shape[0])), int(rng.integers(maps.shape[1])), int(rng.integers(maps.shape[2]))
        found = arithmetic.explain(form, image, layer, unit)
        json.dumps(found)
        assert found["value"] == pytest.approx(float(maps[unit]), abs=1e-6)
        assert parts_add_up(found) == pytest.approx(found["value"], abs=tolerance), layer.id


def test_the_arithmetic_of_a_unit_is_the_tensors_value(recipe: Subject, cat: Pixels) -> None:
    for layer in recipe.served.layers:
        check(recipe.served, cat, layer, 1e-4)


def test_that_holds_in_int8_too(quantised: Subject, cat: Pixels) -> None:
    for layer in quantised.served.layers:
        if layer.kind in ("convolution", "dense", "pooling", "global pooling"):
            check(quantised.served, cat, layer, 1e-4)


def test_a_window_in_the_padding_sees_zeros(shipped: Subject, cat: Pixels) -> None:
    form = shipped.served
    found = arithmetic.explain(form, cat, form.layers.find("conv2"), (0, 0, 5))
    assert (found["window"]["top"], found["window"]["left"]) == (-1, -1)
    assert len(found["channels"]) == 24
    for channel in found["channels"]:
        assert channel["input"][0] == [0, 0, 0]
    assert found["input_layer"] == "relu1"
    assert found["region"] == {"top": 0, "left": 0, "bottom": 3, "right": 3}
    assert found["activation"]["layer"] == "relu2"
    assert found["activation"]["value"] == pytest.approx(max(0.0, found["value"]), abs=1e-6)


def test_the_shown_inputs_are_the_layer_belows(shipped: Subject, cat: Pixels) -> None:
    form = shipped.served
    found = arithmetic.explain(form, cat, form.layers.find("conv2"), (7, 9, 5))
    below = form.maps(form.layers.find("relu1"), cat)[0]
    for channel in found["channels"]:
        np.testing.assert_allclose(channel["input"], below[6:9, 8:11, channel["channel"]], atol=1e-6)


def test_equal_maxima_are_all_named(shipped: Subject, cat: Pixels) -> None:
    form = shipped.served
    pool = form.layers.find("pool1")
    maps, inputs = (form.maps(form.layers.find(name), cat)[0] for name in ("pool1", "relu2"))
    row, column, channel = np.argwhere(maps == 0)[0].tolist()
    found = arithmetic.explain(form, cat, pool, (row, column, channel))
    assert len(found["chosen"]) == 4
    assert all(inputs[y, x, channel] == 0 for y, x in found["chosen"])


def test_what_is_not_taken_apart_is_said(shipped: Subject, cat: Pixels) -> None:
    layer = shipped.served.layers.find("relu1")
    object_without_axes = Layer(**{**vars(layer), "output": None})
    with pytest.raises(CannotExplain, match="relu1 has no rows, columns and channels"):
        arithmetic.explain(shipped.served, cat, object_without_axes, (0, 0, 0))
