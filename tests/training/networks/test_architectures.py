from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from contract.errors import UsageError
from training import optimisers, recipes
from training.data import augment
from training.networks import architectures
from training.networks.architectures import Dirac, Pairs, Whitened
from training.networks.convolution import Convolution

NETWORKS = [
    Pairs(),
    Pairs((4, 8), dropout=(0.1, 0.2)),
    Whitened(),
    Whitened((8, 16), depth=1),
    Whitened((8, 16), depth=3),
    Whitened((4, 4), depth=10),
    Whitened((8, 16), activation="gelu"),
]


def randomise(model: keras.Model) -> None:
    """Weights and statistics as after training, so that nothing is hidden by zeros and ones."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "seed" not in variable.path:
            spread = rng.normal(0, 0.2, variable.shape)
            variable.assign(np.abs(spread) + 0.5 if "variance" in variable.path else spread)


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_the_exported_form_computes_the_same(network: architectures.Network) -> None:
    trained, exported = (network.build((32, 32), 10, for_export=flag) for flag in (False, True))
    randomise(trained)
    architectures.copy_weights(trained, exported)
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    ours, theirs = (np.asarray(model.predict_on_batch(images)) for model in (trained, exported))
    assert ours.shape == (4, 10)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1, np.abs(ours).max()))


def test_the_seed_is_the_articles_network() -> None:
    model = recipes.SEED.network.build((32, 32), 10)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [32, 32, 64, 64, 128, 128]
    assert all(layer.kernel_size == (3, 3) and layer.padding == "same" for layer in convolutions)
    assert all(float(layer.kernel_regularizer.l2) == pytest.approx(1e-4) for layer in convolutions)
    assert model.get_layer("logits").kernel.shape == (4 * 4 * 128, 10)


def test_whitening_makes_patches_uncorrelated_and_of_unit_variance() -> None:
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (400, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    images = np.clip(smooth + rng.integers(-20, 20, (400, 32, 32, 3)), 0, 255).astype(np.uint8)
    model = Whitened((8,)).build((32, 32), 3)
    architectures.whiten(model, images)
    layer = model.get_layer(architectures.WHITENING)
    out = keras.ops.convert_to_numpy(layer(images.astype(np.float32) / 255)).reshape(-1, 24)
    np.testing.assert_allclose(out.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(out[:, :12].T), np.eye(12), atol=0.05)
    np.testing.assert_allclose(out[:, 12:], -out[:, :12], atol=1e-4)


def test_whitening_looks_at_all_classes() -> None:
    """Folders are in the order of their classes: here 5,000 dull images come first, and then as many lively ones."""
    rng = np.random.default_rng(0)
    dull, lively = rng.integers(120, 136, (5000, 8, 8, 3)), rng.integers(0, 256, (5000, 8, 8, 3))
    images = np.concatenate([dull, lively]).astype(np.uint8)
    model = Whitened((8,)).build((8, 8), 3)
    architectures.whiten(model, images)
    out = keras.ops.convert_to_numpy(model.get_layer(architectures.WHITENING)(images.astype(np.float32) / 255))
    np.testing.assert_allclose(out.reshape(-1, 24).std(0), 1, atol=0.05)


def test_the_whitening_kernel_is_fixed_and_its_bias_is_not() -> None:
    trained = {variable.path for variable in Whitened().build((32, 32), 10).trainable_variables}
    assert f"{architectures.WHITENING}/bias" in trained
    assert f"{architectures.WHITENING}/kernel" not in trained


def test_dirac_passes_channels_through() -> None:
    keras.utils.set_random_seed(0)
    kernel = np.asarray(Dirac()((3, 3, 4, 6)))
    passed = np.zeros((3, 3, 4, 4))
    passed[1, 1] = np.eye(4)
    np.testing.assert_array_equal(kernel[..., :4], passed)
    assert 0 < np.abs(kernel[..., 4:]).max() <= 1 / 6


def test_large_images_are_whitened_in_strides() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (20, 16, 16, 3), np.uint8)
    images = np.stack([np.kron(x, np.ones((8, 8, 1), np.uint8)) for x in small])  # 128 pixels, smooth in blocks
    model = Whitened((8, 8)).build((128, 128), 3)
    architectures.whiten(model, images)
    layer = model.get_layer(architectures.WHITENING)
    assert layer.kernel.shape == (6, 6, 3, 48)
    assert layer.strides == (3, 3)
    before = keras.ops.conv(images.astype(np.float32) / 255, layer.kernel, strides=3) + layer.bias
    flat = keras.ops.convert_to_numpy(before)[..., :24].reshape(-1, 24)
    np.testing.assert_allclose(np.cov(flat.T), np.eye(24), atol=0.05)
    assert Whitened((8, 8)).build((224, 224), 3).count_params() < 20_000 + 8 * 48 * 9


def test_precision_is_for_its_block_alone() -> None:
    before = keras.config.dtype_policy().name
    with architectures.precision("mixed_bfloat16"):
        model = Whitened((8,)).build((16, 16), 3)
    assert keras.config.dtype_policy().name == before
    assert model.get_layer("conv1a").compute_dtype == "bfloat16"
    assert model.get_layer("conv1a").kernel.dtype == "float32"
    assert model.get_layer(architectures.WHITENING).compute_dtype == "float32"


def test_schedules() -> None:
    triangle = optimisers.Triangle(0.2, 0.25, 0.1)
    assert [triangle.at(p) for p in (0, 0.25, 1)] == pytest.approx([0.2, 1, 0.1])
    assert triangle.at(0.625) == pytest.approx(0.55)
    cosine = optimisers.Cosine(0.1)
    assert [cosine.at(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.55, 0.1])
    assert optimisers.Constant().at(0.7) == 1


def test_nesterov_by_hand() -> None:
    """Two steps of the optimiser against the formulas, on a kernel and on a bias of batch normalisation."""
    norm = keras.layers.BatchNormalization(scale=False, beta_initializer="ones")
    norm.build((None, 1))
    kernel, beta = keras.Variable([1.0], name="kernel"), norm.beta
    optimiser = optimisers.Nesterov(learning_rate=0.1, momentum=0.5, decay=0.01, bias_factor=8).make()
    expected = {"kernel": 1.0, "beta": 1.0}
    speed = {"kernel": 0.0, "beta": 0.0}
    for _ in range(2):
        optimiser.apply([keras.ops.array([0.3]), keras.ops.array([0.3])], [kernel, beta])
        for name, factor in (("kernel", 1), ("beta", 8)):
            gradient = 0.3 + 0.01 / factor * expected[name]
            rate = 0.1 * factor
            speed[name] = 0.5 * speed[name] - rate * gradient
            expected[name] += 0.5 * speed[name] - rate * gradient
    assert float(kernel.numpy()[0]) == pytest.approx(expected["kernel"], rel=1e-5)
    assert float(beta.numpy()[0]) == pytest.approx(expected["beta"], rel=1e-5)


def test_lookahead_keeps_what_it_says() -> None:
    variable = keras.Variable([1.0])
    slow = optimisers.Lookahead([variable])
    variable.assign([2.0])
    slow.step(4, 0.5)
    assert float(variable.numpy()[0]) == 2.0
    slow.step(5, 1.0)
    keep = 0.95**5
    assert float(variable.numpy()[0]) == pytest.approx(keep * 1 + (1 - keep) * 2)


def test_a_moving_average_leaves_the_run_alone_until_it_is_shown() -> None:
    variable = keras.Variable([1.0])
    average = optimisers.MovingAverage([variable])
    variable.assign([2.0])
    average.step(9, 0.5)
    average.step(10, 0.5)  # the first time, a tenth of the start is kept
    expected = 0.1 * 1 + 0.9 * 2
    with average.shown():
        assert float(variable.numpy()[0]) == pytest.approx(expected)
    assert float(variable.numpy()[0]) == 2.0
    average.step(100_000, 0.5)
    average.finish()
    assert float(variable.numpy()[0]) == pytest.approx(0.99 * expected + 0.01 * 2)


def test_a_recipe_without_flips_is_another_form_of_it() -> None:
    plain = recipes.FAST.unmirrored()
    assert plain.augmentation == (augment.Translate(2),)
    assert plain.form() != recipes.FAST.form()
    assert recipes.FAST.form() == dataclasses.replace(recipes.FAST, epochs=3, summary="other words").form()


def test_recipes_are_found_by_name() -> None:
    assert recipes.find("seed") is recipes.SEED
    with pytest.raises(
        UsageError, match="choose auto, transfer, fast, small, small-jpeg, robust, best, seed, seed-plus"
    ):
        recipes.find("slow")


def test_what_ships_and_the_best_are_trained_as_their_figures_say() -> None:
    """They take over what they have in common with the default recipe, which may change."""
    for recipe, widths, depth, rate, epochs in (
        (recipes.SMALL, (64, 192, 224), 2, 1.5, 20),
        (recipes.BEST, (128, 384, 256), 3, 1.2, 32),
    ):
        assert recipe.network == Whitened(widths, depth, activation="relu", momentum=0.6, scale=1 / 9)
        assert recipe.optimiser == optimisers.Nesterov(rate, momentum=0.85, decay=1.33e-3, bias_factor=64.0)
        assert (recipe.epochs, recipe.batch_size, recipe.label_smoothing) == (epochs, 1024, 0.2)


@pytest.mark.parametrize("depth", [1, 2, 3, 9, 30])
def test_a_group_may_have_any_depth(depth: int) -> None:
    model = Whitened((2, 2), depth=depth).build((16, 16), 3)
    convolutions = [layer for layer in model.layers if isinstance(layer, Convolution)]
    assert len(convolutions) == 2 * depth
    assert model.count_params() > 0


def test_layers_are_lettered() -> None:
    assert [architectures.letters(number) for number in (1, 2, 8, 26, 27, 53)] == ["a", "b", "h", "z", "aa", "ba"]
