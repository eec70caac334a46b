"""Grad-CAM as its paper computes it (Selvaraju et al. 2017, arXiv:1610.02391), by PyTorch's automatic gradients.

PyTorch is in the benchmark's environment alone: `pip install torch`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from contract.network.errors import CannotExplain
from contract.network.graph import Array, Graph, Node
from contract.preprocessing import Pixels


class Network:
    """A float32 network of convolutions, ReLU and max pooling, as PyTorch computes it.

    Args:
        graph: the network.
        score: the tensor of its logits.
    """

    def __init__(self, graph: Graph, score: str) -> None:
        self._graph = graph.between(graph.input, [score])
        self._score = score
        self._weights = {name: torch.from_numpy(np.array(value)) for name, value in self._graph.constants.items()}
        convolutions = [place for place, node in enumerate(self._graph.nodes) if node.operator == "Conv"]
        after = self._graph.nodes[convolutions[-1] + 1]
        self._layer = after.output if after.operator == "Relu" else self._graph.nodes[convolutions[-1]].output

    def run(self, images: Pixels) -> tuple[Any, Any]:
        """Logits of images, uint8 (N, H, W, 3), and the last convolution's maps, activated, (N, C, H, W)."""
        given = torch.from_numpy(images.astype(np.float32)).requires_grad_()
        values = {**self._weights, self._graph.input: given}
        for node in self._graph.nodes:
            values[node.output] = self._compute(node, [values[name] for name in node.inputs if name])
        return values[self._score], values[self._layer]

    def _compute(self, node: Node, given: list[Any]) -> Any:
        x, attributes = given[0], node.attributes
        match node.operator:
            case "Conv":
                top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
                padded = functional.pad(x, (left, right, top, bottom))
                return functional.conv2d(padded, *given[1:], stride=tuple(attributes["strides"]))
            case "MaxPool":
                return functional.max_pool2d(x, tuple(attributes["kernel_shape"]), tuple(attributes["strides"]))
            case "GlobalMaxPool":
                return functional.adaptive_max_pool2d(x, 1)
            case "Squeeze":
                return x.flatten(1)
            case "Transpose":
                return x.permute(*attributes["perm"])
            case "Relu":
                return torch.relu(x)
            case "Cast":
                return x.float()
            case "Add":
                return x + given[1]
            case "Mul":
                return x * given[1]
            case "MatMul":
                return x @ given[1]
        raise CannotExplain(f"benchmarks.grad_cam has no {node.operator}")

    def logits(self, images: Pixels) -> Array:
        """Float32 (N, classes)."""
        with torch.no_grad():
            return np.asarray(self.run(images)[0].numpy())

    def grad_cam(self, image: Pixels, target: int) -> npt.NDArray[np.float64]:
        """The map of a class for an image, uint8 (1, H, W, 3): enlarged bilinearly to (H, W)."""
        logits, maps = self.run(image)
        (slopes,) = torch.autograd.grad(logits[0, target], maps)
        weights = slopes.mean((2, 3), keepdim=True)
        positive = torch.relu((weights * maps).sum(1, keepdim=True))
        enlarged = functional.interpolate(positive, image.shape[1:3], mode="bilinear", align_corners=False)
        return np.asarray(enlarged[0, 0].detach().numpy(), np.float64)
