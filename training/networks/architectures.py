"""The Keras networks. Each takes RGB images with values 0 to 255, (N, H, W, 3), and returns logits, (N, classes).

A network's `build` makes a Keras model from its fields, in one of two forms that compute the same: one for training,
and one for export, in which every batch normalisation stands right behind its convolution and folds into the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from contract.preprocessing import Pixels
from training.data.augment import Transform
from training.data.dataset import Dataset
from training.networks import linear_head
from training.networks.convolution import Convolution
from training.networks.normalisation import BatchNorm

Precision = Literal["float32", "mixed_bfloat16"]
WHITENING: Final = "whitening"
"""The name of the layer that `whiten` sets."""
_PLANE: Final = 48
"""Larger images have about this side, in pixels, behind the whitening layer."""
_WHITENING_VALUES: Final = 10**8
"""Values of patches that whitening is computed from, at most."""


@dataclass(frozen=True)
class Start:
    """What a network knows before its first step, cross-validated on training and validation images.

    Attributes:
        logits: float32 (N, classes), each from a fit that did not see the image.
        targets: int64 (N,).
    """

    logits: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Fraction of the images that is classified correctly."""
        return float((self.logits.argmax(1) == self.targets).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return float(linear_head.cross_entropy(self.logits, self.targets)[0].mean())


class Network(Protocol):
    """Something that builds a Keras model."""

    def build(self, size: tuple[int, int], classes: int, *, for_export: bool = False) -> keras.Model:
        """Make a model of (N, height, width, 3) -> logits (N, classes)."""

    def start(
        self,
        model: keras.Model,
        dataset: Dataset,
        transforms: tuple[Transform, ...],
        by_class: npt.NDArray[np.float32] | None,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> Start | None:
        """Prepare a model for its first step.

        Args:
            model: made by `build`; changed in place.
            dataset: what it will be trained on.
            transforms: the augmentation that it will be trained with.
            by_class: float32 (classes,), the weight of each class; None where all weigh the same.
            seed: of what is random here.
            progress: called with images done and in all, if this takes long.

        Returns:
            What the model knows already; None if it knows nothing.
        """


@dataclass(frozen=True)
class Pairs:
    """Pairs of 3×3 convolutions, each pair followed by 2×2 max-pooling, then one dense layer.

    The network of the article that this project grew from: zero-padding, batch normalisation, ReLU, and L2
    regularisation of the kernels. Normalisation stands before the ReLU (Ioffe and Szegedy 2015), where it folds.

    Attributes:
        widths: kernels in each pair.
        l2: factor of the squared kernels in the loss.
        dropout: fraction of activations dropped after each pair's pooling; none where empty.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    l2: float = 1e-4
    dropout: tuple[float, ...] = ()

    def build(self, size: tuple[int, int], classes: int, *, for_export: bool = False) -> keras.Model:
        """Make a model of (N, height, width, 3) -> logits (N, classes)."""
        x = inputs = keras.Input((*size, 3), name="images")
        x = layers.Rescaling(1 / 255)(x)
        for pair, width in enumerate(self.widths):
            for half in "ab":
                x = Convolution(  # without a bias: the normalisation has one
                    width, kernel_regularizer=keras.regularizers.L2(self.l2), name=f"conv{pair + 1}{half}"
                )(x)
                x = BatchNorm(name=f"norm{pair + 1}{half}")(x)
                x = layers.ReLU(name=f"relu{pair + 1}{half}")(x)
            x = layers.MaxPooling2D(name=f"pool{pair + 1}")(x)
            if self.dropout:
                x = layers.Dropout(self.dropout[pair], seed=pair)(x)
        # float32: bfloat16 logits would lose the small differences that calibration needs
        if for_export:  # the dense layer as an equal convolution: its input needs no transposition
            x = layers.Conv2D(classes, x.shape[1:3], dtype="float32", name="logits")(x)
            return keras.Model(inputs, layers.Reshape((classes,))(x), name="pairs")
        x = layers.Flatten()(x)
        return keras.Model(inputs, layers.Dense(classes, dtype="float32", name="logits")(x), name="pairs")

    def start(
        self,
        model: keras.Model,
        dataset: Dataset,
        transforms: tuple[Transform, ...],
        by_class: npt.NDArray[np.float32] | None,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> Start | None:
        """Leave the model with its random weights; return None."""
        return None


@dataclass(frozen=True)
class Whitened:
    """A whitening convolution of fixed kernels, then groups of convolution, pooling, convolution.

    After Jordan 2024 ("94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498), where GELU is behind the
    whitening, too. The normalisation has no scale (fixed at one), so it commutes with max-pooling: it is trained
    behind the pooling, where it is cheaper, and exported before it, where it folds.

    The whitening kernels are 2×2 up to a side of 71 pixels. For larger images they have a stride and are twice as wide
    as it, so the planes behind them have a side of 36 to 71 in any case, and a larger image costs little more.

    Attributes:
        widths: kernels in each group.
        depth: convolutions in each group, one or more; from three on, a skip connection bridges all but the first.
        activation: ReLU is faster in service; GELU reaches a higher accuracy in as many epochs. Behind the whitening,
            where each kernel also has its negative, it is ReLU in either case.
        momentum: of the normalisation's running mean and variance.
        scale: factor on the logits.
        pool_padding: "valid" drops the last row and column of a plane with an odd side, "same" keeps them.
        train_whitening_bias: whether the bias of the whitening is trained. If not, no gradient is computed through the
            largest planes.
    """

    widths: tuple[int, ...] = (64, 256, 256)
    depth: int = 2
    activation: Literal["relu", "gelu"] = "relu"
    momentum: float = 0.6
    scale: float = 1 / 9
    pool_padding: Literal["valid", "same"] = "valid"
    train_whitening_bias: bool = True

    def build(self, size: tuple[int, int], classes: int, *, for_export: bool = False) -> keras.Model:
        """Make a model of (N, height, width, 3) -> logits (N, classes)."""

        def conv(x: Any, width: int, name: str) -> Any:
            return Convolution(width, kernel_initializer=Dirac(), name=f"conv{name}")(x)

        def norm(x: Any, name: str) -> Any:
            layer = BatchNorm(momentum=self.momentum, scale=False, epsilon=1e-5, name=f"norm{name}")
            return layer(x)

        def activate(x: Any) -> Any:
            if self.activation == "relu":
                return layers.ReLU()(x)
            return layers.Activation(gelu_for_export if for_export else gelu)(x)

        x = inputs = keras.Input((*size, 3), name="images")
        # float32: whitening magnifies small differences, which bfloat16 would round away
        x = layers.Rescaling(1 / 255, dtype="float32")(x)
        stride = max(1, round(min(size) / _PLANE))
        whitening = layers.Conv2D(
            24 if stride == 1 else 48, 2 * stride, strides=stride, padding="valid", dtype="float32", name=WHITENING
        )
        x = layers.ReLU()(whitening(x))
        whitening.kernel.trainable = False
        whitening.bias.trainable = self.train_whitening_bias
        for group, width in enumerate(self.widths, 1):
            x = conv(x, width, f"{group}a")
            if not for_export:
                x = activate(norm(layers.MaxPooling2D(padding=self.pool_padding)(x), f"{group}a"))
            elif self.activation == "relu":  # before the pooling, where it folds too
                x = layers.MaxPooling2D(padding=self.pool_padding)(activate(norm(x, f"{group}a")))
            else:  # GELU is not monotonic, so it does not commute with max-pooling
                x = activate(layers.MaxPooling2D(padding=self.pool_padding)(norm(x, f"{group}a")))
            skipped = x
            for place in range(2, self.depth + 1):
                name = f"{group}{letters(place)}"
                x = norm(conv(x, width, name), name)
                if self.depth > 2 and place == self.depth:
                    x = layers.Add()([x, skipped])
                x = activate(x)
        x = layers.GlobalMaxPooling2D()(x)
        x = layers.Dense(
            classes,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            dtype="float32",
            name="dense",
        )(x)
        return keras.Model(inputs, layers.Rescaling(self.scale, dtype="float32", name="logits")(x), name="whitened")

    def start(
        self,
        model: keras.Model,
        dataset: Dataset,
        transforms: tuple[Transform, ...],
        by_class: npt.NDArray[np.float32] | None,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> Start | None:
        """Set the whitening kernels from the training images; return None."""
        whiten(model, dataset.train.images)
        return None


def letters(number: int) -> str:
    """Return the letters of a layer's place in its group, counted from 1: a, b, ... z, aa, ab, ..."""
    text = ""
    while number:
        number, letter = divmod(number - 1, 26)
        text = chr(ord("a") + letter) + text
    return text


@keras.saving.register_keras_serializable("kernelscope")  # type: ignore[untyped-decorator]  # keras is untyped
def gelu(x: Any) -> Any:
    """x·sigmoid(1.702·x), the fast approximation of the Gaussian error linear unit (Hendrycks and Gimpel 2016).

    See arXiv:1606.08415.
    """
    return ops.silu(1.702 * x) / 1.702  # its gradient needs nothing but its input


@keras.saving.register_keras_serializable("kernelscope")  # type: ignore[untyped-decorator]  # keras is untyped
def gelu_for_export(x: Any) -> Any:
    """`gelu` in another form."""
    return x * ops.sigmoid(1.702 * x)  # onnxruntime fuses this form into one node


@keras.saving.register_keras_serializable("kernelscope")
class Dirac(keras.initializers.Initializer):  # type: ignore[misc]  # keras is untyped
    """Initialise kernels as identities of the input channels, as far as there are as many; the rest uniformly.

    A deep plain network then starts as a shallow one (Zagoruyko and Komodakis 2017, arXiv:1706.00388).
    """

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return a kernel of shape (height, width, input channels, kernels)."""
        height, width, channels, kernels = shape
        bound = 1 / math.sqrt(height * width * channels)
        noise = keras.random.uniform(shape, -bound, bound, dtype=dtype, seed=self._seed())
        passed = np.zeros(shape, np.float32)
        for channel in range(min(channels, kernels)):
            passed[height // 2, width // 2, channel, channel] = 1
        keep = (np.arange(kernels) >= channels).astype(np.float32)
        return ops.cast(noise, "float32") * ops.convert_to_tensor(keep) + ops.convert_to_tensor(passed)

    def _seed(self) -> int:
        return int(np.random.randint(2**31))  # NumPy's global state, which `keras.utils.set_random_seed` sets


@contextmanager
def precision(policy: Precision) -> Iterator[None]:
    """Layers made in this block compute in that precision; variables are float32 in any case."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def whiten(model: keras.Model, images: Pixels, *, epsilon: float = 3e-5) -> None:
    """Set the whitening layer to the principal components of patches, at unit variance, and their negatives.

    Args:
        model: a model with a layer named `WHITENING`; a model without one is left as it is.
        images: uint8 (N, H, W, 3). 5,000 are used, fewer where they are large, evenly spaced, because they may be
            sorted by class.
        epsilon: added to the variances, of values in [0, 1], so that components without variance are not amplified.
    """
    if not any(layer.name == WHITENING for layer in model.layers):
        return
    layer = model.get_layer(WHITENING)
    side, _, _, kernels = layer.kernel.shape
    stride = layer.strides[0]
    _, height, width, _ = images.shape
    an_image = (height // stride) * (width // stride) * side * side * 3
    count = max(1, min(len(images), 5000, _WHITENING_VALUES // an_image))
    x = images[np.linspace(0, len(images) - 1, count).round().astype(int)].astype(np.float32) / 255
    mean = x.mean((0, 1, 2))
    windows = np.lib.stride_tricks.sliding_window_view(x - mean, (side, side), axis=(1, 2))
    patches = windows[:, ::stride, ::stride]  # (N, rows, columns, 3, side, side)
    flat = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, side * side * 3)
    variances, directions = np.linalg.eigh(flat.T @ flat / len(flat))  # ascending: the last are the principal ones
    scaled = (directions / np.sqrt(np.maximum(variances, 0) + epsilon))[:, -kernels // 2 :]
    scaled = scaled.reshape(side, side, 3, kernels // 2)
    both = np.concatenate([scaled, -scaled], axis=-1)
    layer.kernel.assign(both)
    layer.bias.assign(-np.einsum("yxck,c->k", both, mean))


def copy_weights(source: keras.Model, target: keras.Model) -> keras.Model:
    """Copy weights between layers of the same names, reshaped as `target` needs; return `target`."""
    for layer in source.layers:
        if layer.weights:
            own = target.get_layer(layer.name)
            own.set_weights([w.reshape(o.shape) for w, o in zip(layer.get_weights(), own.get_weights(), strict=True)])
    return target
