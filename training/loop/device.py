"""Many steps in one call on a device, by JAX: images, augmentation and steps without a round trip to the host.

The training images are in the device's memory, or blocks of them are sent there ahead of the calls. What is random was
drawn by the host, so the batches are those that `Batches.at` makes, up to one level of 255. The step is made of Keras'
stateless API (https://keras.io/guides/writing_a_custom_training_loop_in_jax/), in a `jax.lax.scan`.
"""

from __future__ import annotations

import time
from typing import Any

import jax  # this module is imported only where it is the backend
import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from training import optimisers
from training.data import augment_on_device
from training.loop.batches import Batches
from training.loop.blocks import Block, Blocks, Rows
from training.loop.executor import Point

State = dict[str, list[Any]]
"""Values of the variables: `trainable`, `fixed`, those of the `optimiser`, and the `slow` averages of the weights."""


class Device:
    """See `training.loop.executor.Executor`.

    Args:
        model: built within the distribution, if there is one; its optimiser is built.
        loss: of target probabilities and logits.
        averaging: what follows the weights; None for nothing.
        batches: the run's.
        is_resident: whether all training images are in the device's memory; else they are streamed.
    """

    saves_each_epoch = False
    pace = 0.0

    def __init__(
        self,
        model: keras.Model,
        loss: keras.losses.Loss,
        averaging: optimisers.Averaging | None,
        batches: Batches,
        *,
        is_resident: bool,
    ) -> None:
        self._model, self._loss, self._averaging, self._batches = model, loss, averaging, batches
        self._distribution = keras.distribution.distribution()
        can = [augment_on_device.can(transform) for transform in batches.transforms]
        on_host = len(can) - can[::-1].index(False) if False in can else 0
        self._transforms = batches.transforms[on_host:]
        self._images = self._put(np.asarray(batches.split.images)) if is_resident else None
        self._blocks = Blocks(batches, None if is_resident else on_host, self._place)
        variable = model.optimizer.learning_rate
        self._rate_at = [own is variable for own in model.optimizer.variables].index(True)
        place = {id(v): (group, i) for group, variables in self._variables().items() for i, v in enumerate(variables)}
        self._weights_at = [place[id(weight)] for weight in model.weights]
        self._is_compiled = False
        shardings = None
        if self._distribution:
            shardings = jax.tree.map(lambda value: value.sharding, self._state()), None
        self._call = jax.jit(self._steps, donate_argnums=0, out_shardings=shardings)

    def most(self, step: int) -> int:
        """Return how many steps there are to the end of the block."""
        return self._blocks.bounds(step)[1] - step

    def run(self, step: int, points: list[Point]) -> npt.NDArray[np.float64]:
        """Run one step for each point, from `step` on, in one call."""
        block, began = self._blocks.holding(step), time.monotonic()
        state, figures = self._call(self._state(), self._images, {**block.rows, **self._schedule(block, step, points)})
        sums = np.asarray(figures, np.float64)  # waits for the device
        for group, variables in self._variables().items():
            for variable, value in zip(variables, state[group], strict=True):
                variable.assign(value)
        if self._averaging:
            self._averaging.slow = state["slow"]
        if self._is_compiled:
            self.pace = (time.monotonic() - began) / len(points)
        self._is_compiled = True
        return sums

    def close(self) -> None:
        """Stop making blocks."""
        self._blocks.close()

    def _variables(self) -> dict[str, list[Any]]:
        return {
            "trainable": self._model.trainable_variables,
            "fixed": self._model.non_trainable_variables,
            "optimiser": self._model.optimizer.variables,
        }

    def _state(self) -> State:
        state = {group: [variable.value for variable in variables] for group, variables in self._variables().items()}
        return {**state, "slow": [self._put(value) for value in self._averaging.slow] if self._averaging else []}

    def _schedule(self, block: Block, step: int, points: list[Point]) -> Rows:
        """What differs from step to step beside the batch: rates, averaging, and which rows are run."""
        length, at = self._blocks.length, step - block.first
        rate, kept = np.zeros((2, length), np.float32)
        mixes, runs = np.zeros((2, length), bool)
        for i, point in enumerate(points):
            keep = self._averaging.keep(step + i + 1, point.progress) if self._averaging else None
            rate[at + i], runs[at + i], mixes[at + i] = point.learning_rate, True, keep is not None
            kept[at + i] = 1.0 if keep is None else keep
        return {"rate": rate, "keep": kept, "mixes": mixes, "runs": runs}

    # --- on the device

    def _steps(self, state: State, images: Any, rows: Rows) -> tuple[State, Any]:
        def step(state: State, row: Rows) -> tuple[State, Any]:
            after, figures = self._step(state, images, row)
            # a row that is not run changes nothing: a branch would make a GPU wait for the host
            state = jax.tree.map(lambda new, old: ops.where(row["runs"], new, old), after, state)
            return state, ops.where(row["runs"], figures, 0.0)

        state, figures = jax.lax.scan(step, state, rows)
        return state, ops.sum(figures, axis=0)

    def _step(self, state: State, images: Any, row: Rows) -> tuple[State, Any]:
        x, y, weights = self._batch(images, row)
        gradient = jax.value_and_grad(self._losses, has_aux=True)
        (loss, (logits, fixed)), gradients = gradient(state["trainable"], state["fixed"], x, y, weights)
        own = list(state["optimiser"])
        own[self._rate_at] = row["rate"]
        trainable, own = self._model.optimizer.stateless_apply(own, gradients, state["trainable"])
        is_right = ops.argmax(logits, axis=-1) == ops.cast(row["targets"], "int32")
        figures = ops.stack([ops.cast(loss, "float32"), ops.mean(ops.cast(is_right, "float32"))])
        return self._averaged({**state, "trainable": trainable, "fixed": fixed, "optimiser": own}, row), figures

    def _losses(self, trainable: list[Any], fixed: list[Any], x: Any, y: Any, weights: Any) -> tuple[Any, Any]:
        logits, fixed, penalties = self._model.stateless_call(trainable, fixed, x, training=True, return_losses=True)
        return sum(penalties, self._loss(y, logits, sample_weight=weights)), (logits, fixed)

    def _batch(self, images: Any, row: Rows) -> tuple[Any, Any, Any]:
        x = row["images"] if images is None else ops.take(images, row["chosen"], axis=0)
        if self._distribution:
            x = keras.distribution.distribute_tensor(x, self._distribution.get_data_layout(x.shape))
        for transform, parameters in zip(self._transforms, row["parameters"], strict=True):
            x = augment_on_device.apply(transform, x, parameters)
        by_class, targets = self._batches.class_weights, row["targets"]
        weights = None if by_class is None else ops.take(ops.convert_to_tensor(by_class), targets)
        return ops.cast(x, "float32"), ops.one_hot(targets, self._batches.classes, dtype="float32"), weights

    def _averaged(self, state: State, row: Rows) -> State:
        """Mix the weights into the slow ones, as `Averaging.step` does."""
        if not self._averaging:
            return state
        state = {group: list(values) for group, values in state.items()}
        for i, (group, place) in enumerate(self._weights_at):
            slow, fast = state["slow"][i], state[group][place]
            mixed = row["keep"] * slow + (1 - row["keep"]) * fast
            state["slow"][i] = ops.where(row["mixes"], mixed, slow)
            if self._averaging.replaces:
                state[group][place] = ops.where(row["mixes"], mixed, fast)
        return state

    # --- to the device

    def _place(self, rows: Rows) -> Rows:
        # a batch of images is shared by the devices, all else is on each of them
        return {
            name: jax.tree.map(lambda array: self._put(array, shared=name == "images"), value)  # noqa: B023
            for name, value in rows.items()
        }

    def _put(self, array: Any, *, shared: bool = False) -> Any:
        if not self._distribution:
            return jax.device_put(array)  # what is there already stays
        axes = [None] * array.ndim
        if shared:
            axes[1] = self._distribution.batch_dim_name
        layout = keras.distribution.TensorLayout(axes, self._distribution.device_mesh)
        return keras.distribution.distribute_tensor(array, layout)
