from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from contract.network.errors import UnknownChannel, UnknownLayer, UnknownUnit
from contract.network.gradient import Gradient
from contract.network.graph import Floats, Graph
from contract.network.layers import Layer, Layers
from contract.preprocessing import Pixels
from service.explanation.subject import Subject
from tests.support import graphs
from tests.support.exported import SIZE


def reached(gradient: Gradient, layer: Layer, images: Floats, row: int, column: int) -> npt.NDArray[np.bool_]:
    """The pixels by which the gradient of a unit is not zero, in any channel and for any of the images."""
    graph = gradient.graph
    seed = np.zeros(graph.shapes[layer.tensor][1:], np.float32)
    place = dict(zip("HW", (row, column), strict=True))
    roles = graph.roles[layer.tensor][1:]
    picked = seed[tuple(place.get(role, slice(None)) for role in roles)]
    picked[...] = np.random.default_rng(2).normal(size=picked.shape)
    _, _, (slopes,) = gradient(images, seed)
    return np.asarray(np.abs(slopes).max((0, 3)) > 0)


def check_fields(graph: Graph, images: Floats) -> None:
    height, width = images.shape[1:3]
    for layer in Layers.of(graph):
        assert layer.output is not None
        rows, columns, _ = layer.output
        gradient = Gradient(graph, layer.tensor, [graph.input])
        for row, column in {(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)}:
            top, left, bottom, right = layer.field.region(row, column, (height, width))
            expected = np.zeros((height, width), bool)
            expected[top:bottom, left:right] = True
            found = reached(gradient, layer, images, row, column)
            if not expected.any():  # a unit of the padding
                assert not found.any(), layer.id
                continue
            np.testing.assert_array_equal(np.argwhere(found).min(0), [top, left], layer.id)
            np.testing.assert_array_equal(np.argwhere(found).max(0), [bottom - 1, right - 1], layer.id)
            assert not (found & ~expected).any(), layer.id


def test_sizes_are_those_of_the_tensors(recipe: Subject, cat: Pixels) -> None:
    form = recipe.served
    for layer in form.layers:
        assert layer.output is not None
        assert form.maps(layer, cat).shape == (1, *layer.output)
        if layer.window:
            size = layer.describe()["size"]
            assert [int(size[axis].rpartition(" = ")[2]) for axis in ("rows", "columns")] == list(layer.output[:2])


def test_receptive_fields_are_those_that_gradients_reach(recipe: Subject) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (4, *SIZE, 3)).astype(np.float32)
    check_fields(recipe.served.graph, noise)


def weights(*shape: int) -> Floats:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def test_receptive_fields_of_other_windows() -> None:
    nodes: list[graphs.NodeSpec] = [
        ("Transpose", ["images"], "a", {"perm": [0, 3, 1, 2]}),
        ("Pad", ["a", np.array([0, 0, 1, 0, 0, 0, 2, 0])], "b", {}),
        ("Conv", ["b", weights(4, 3, 3, 2)], "c", {"strides": [2, 1], "dilations": [1, 2], "pads": [0, 0, 0, 0]}),
        ("Conv", ["c", weights(4, 2, 1, 3)], "d", {"group": 2, "auto_pad": "SAME_UPPER", "strides": [1, 2]}),
        ("AveragePool", ["d"], "e", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
        ("Conv", ["e", weights(4, 4, 3, 3)], "f", {"pads": [1, 1, 1, 1]}),
        ("Add", ["e", "f"], "g", {}),
        ("Concat", ["e", "g"], "y", {"axis": 1}),
    ]
    check_fields(graphs.graph((31, 29, 3), nodes), weights(2, 31, 29, 3))


def test_a_gate_over_the_whole_map_reaches_everywhere() -> None:
    nodes: list[graphs.NodeSpec] = [
        ("Transpose", ["images"], "a", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["a", weights(4, 3, 3, 3)], "b", {}),
        ("GlobalAveragePool", ["b"], "c", {}),
        ("Sigmoid", ["c"], "d", {}),
        ("Mul", ["b", "d"], "y", {}),
    ]
    graph = graphs.graph((9, 9, 3), nodes)
    check_fields(graph, weights(2, 9, 9, 3))
    assert [layer.id for layer in Layers.of(graph)] == ["conv1", "globalpool1", "sigmoid1", "mul1"]


def test_multiply_adds_and_parameters_are_counted(shipped: Subject) -> None:
    layers = list(shipped.served.layers)
    assert sum(layer.multiply_adds for layer in layers) == shipped.card.cost.multiply_adds == 89_355_616
    (conv2,) = (layer for layer in layers if layer.id == "conv2")
    assert (conv2.parameters, conv2.multiply_adds) == (64 * 24 * 9 + 64, 31 * 31 * 64 * 24 * 9)


def test_the_formula_is_worked_out(shipped: Subject) -> None:
    find = shipped.served.layers.find
    assert find("conv2").describe()["size"]["rows"] == "(31 + 2·1 - 3)/1 + 1 = 31"
    assert find("pool1").describe()["size"]["rows"] == "(31 + 0 + 1 - 2)/2 + 1 = 16"
    nodes: list[graphs.NodeSpec] = [
        ("Transpose", ["images"], "a", {"perm": [0, 3, 1, 2]}),
        ("MaxPool", ["a"], "y", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ]
    pool = Layers.of(graphs.graph((31, 31, 3), nodes)).find("pool1")
    assert pool.describe()["size"]["rows"] == "(31 + 2·0 - 2)/2 + 1 = 15.5, rounded down = 15"


def test_both_forms_of_a_model_have_the_same_layers(shipped: Subject, quantised: Subject) -> None:
    exact, rounded = (
        [
            (one.id.rstrip("0123456789"), one.output)
            for one in form.served.layers
            if form is quantised or one.id != "add1"
        ]
        for form in (shipped, quantised)
    )
    assert exact == rounded  # but for an addition of zero, which quantisation leaves out


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        (
            [("Mul", ["x", np.float32(1.702)], "a", {}), ("Sigmoid", ["a"], "b", {}), ("Mul", ["x", "b"], "y", {})],
            "gelu",
        ),
        ([("Sigmoid", ["x"], "b", {}), ("Mul", ["b", "x"], "y", {})], "swish"),
        ([("HardSigmoid", ["x"], "b", {}), ("Mul", ["x", "b"], "y", {})], "hardswish"),
        ([("Softplus", ["x"], "a", {}), ("Tanh", ["a"], "b", {}), ("Mul", ["x", "b"], "y", {})], "mish"),
        (
            [
                ("Div", ["x", np.float32(1.4142135)], "a", {}),
                ("Erf", ["a"], "b", {}),
                ("Add", ["b", np.float32(1)], "c", {}),
                ("Mul", ["x", "c"], "d", {}),
                ("Mul", ["d", np.float32(0.5)], "y", {}),
            ],
            "gelu",
        ),
    ],
)
def test_an_activation_of_several_nodes_is_one_layer(nodes: list[graphs.NodeSpec], names: str) -> None:
    start: list[graphs.NodeSpec] = [
        ("Transpose", ["images"], "t", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", weights(4, 3, 3, 3)], "x", {}),
    ]
    layers = Layers.of(graphs.graph((9, 9, 3), [*start, *nodes]))
    assert [layer.id for layer in layers] == ["conv1", f"{names}1"]
    activation = layers.find(f"{names}1")
    assert (activation.kind, activation.tensor, activation.inputs) == ("activation", "y", ("conv1",))
    assert layers.activation_of(layers.find("conv1")) is activation


def test_what_is_not_there_is_refused_with_what_is(shipped: Subject) -> None:
    layers = shipped.served.layers
    with pytest.raises(UnknownLayer, match="there is no layer 'conv99': choose from mul1, add1, conv1, relu1"):
        layers.find("conv99")
    assert layers.find(layers.find("conv2").node.name).id == "conv2"
    with pytest.raises(UnknownChannel, match="relu2 has no channel 64: its channels are 0 to 63"):
        layers.find("relu2").check_channel(64)
    with pytest.raises(UnknownUnit, match="from 0,0,0 to 30,30,63"):
        layers.find("relu2").check_unit((31, 0, 0))
