from __future__ import annotations

import csv
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import explanations, faithfulness
from benchmarks.ablation import Plain, variants
from contract.network.form import Form
from contract.preprocessing import Pixels
from service.explanation.subject import Subject
from tests.support.server import ROOT, SHIPPED
from training.networks import architectures
from training.recipes import FAST


def first_kernel(network: architectures.Whitened) -> tuple[np.ndarray, np.ndarray, bool]:
    """As it is built, as whitening leaves it, and whether it is trained."""
    keras.utils.set_random_seed(0)
    model = network.build((32, 32), 4)
    kernel = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)).kernel
    built = keras.ops.convert_to_numpy(kernel).copy()
    architectures.whiten(model, np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8))
    return built, keras.ops.convert_to_numpy(kernel), any(variable is kernel for variable in model.trainable_variables)


def test_what_the_ablation_takes_out_is_out() -> None:
    built, left, is_trained = first_kernel(Plain((8,)))
    assert not np.array_equal(built, left)
    assert not is_trained
    built, left, is_trained = first_kernel(Plain((8,), whitened=False))
    assert np.array_equal(built, left)
    assert is_trained


def test_every_variant_differs_from_the_whole() -> None:
    forms = [recipe.form() for recipe in variants(FAST).values()]
    assert len(set(forms)) == len(forms) > 10


def probability(images: Pixels) -> np.ndarray:
    """Of an answer that depends on the brightness of one patch alone."""
    return np.asarray(images[:, 4:12, 16:24].mean((1, 2, 3)) / 255)


def test_the_measures_tell_a_map_that_names_the_patch_from_those_that_do_not() -> None:
    rng = np.random.default_rng(0)
    image = np.full((32, 32, 3), 200, np.uint8)
    image[4:12, 16:24] = 255
    truth = np.zeros((32, 32))
    truth[4:12, 16:24] = 1
    black = np.zeros_like(image)

    def measured(importance: np.ndarray) -> dict[str, float]:
        return faithfulness.scores(importance, image, black, black, probability, 8, rng)

    right, wrong, chance = measured(truth), measured(-truth), measured(rng.random((32, 32)))
    assert right["insertion"] > 0.95 > chance["insertion"] > wrong["insertion"]
    assert right["deletion"] < 0.05 < chance["deletion"] < wrong["deletion"]
    assert right["road"] > 0.1 > abs(chance["road"])
    assert wrong["road"] == pytest.approx(-right["road"], abs=0.02)


def test_the_area_is_that_under_the_line() -> None:
    assert faithfulness.area(np.array([0.0, 0.5, 1.0])) == 0.5
    assert faithfulness.area(np.ones(129)) == 1


def test_removed_pixels_are_the_weighted_means_of_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faithfulness, "ROAD_NOISE", 0.0)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    removed = rng.random((9, 7)) < 0.6
    filled = faithfulness.filled_in(image, removed, rng).astype(float)
    assert np.array_equal(filled[~removed], image[~removed])
    for row, column in np.argwhere(removed):
        total, weights = np.zeros(3), 0.0
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                if (down or across) and 0 <= row + down < 9 and 0 <= column + across < 7:
                    weight = 1 / 12 if down and across else 1 / 6
                    total += weight * filled[row + down, column + across]
                    weights += weight
        assert filled[row, column] == pytest.approx(total / weights, abs=1)  # each is rounded


@pytest.fixture
def ten_images(tmp_path: Path) -> Path:
    for path in sorted((ROOT / "examples" / "images").iterdir()):
        label = next(name for name in Subject(SHIPPED).card.labels if path.stem.startswith(name))
        for split in ("train", "test"):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
    return tmp_path / "data"


def test_explanations_are_measured_and_a_stopped_run_goes_on(ten_images: Path, tmp_path: Path) -> None:
    maps = ["gradient_activation", "contributions"]
    out = tmp_path / "out"
    command = [str(SHIPPED), "--data", str(ten_images)]
    command += ["--maps", *maps, "--pixels", "256", "--workers", "1", "--output", str(out)]
    assert explanations.main([*command, "--images", "1"]) == 0
    before = (out / "scores.csv").read_text()
    assert explanations.main([*command, "--images", "2"]) == 0
    assert (out / "scores.csv").read_text().startswith(before)
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["image"] for row in rows}) == 2
    assert len(rows) == 2 * (2 * len(maps) + 4)
    assert all(0 <= float(row[measure]) <= 1 for row in rows for measure in ("insertion", "deletion"))
    assert (out / "tables.md").read_text().startswith("2 images;")
    with (out / "calls.csv").open() as file:
        assert [row["map"] for row in csv.DictReader(file)] == maps


def test_grad_cam_is_the_mean_slope_of_each_channel_times_its_map() -> None:
    pytest.importorskip("torch", reason="Grad-CAM is computed by PyTorch, which the benchmark's environment has")
    from benchmarks.grad_cam import Network

    subject = Subject(SHIPPED)
    form: Form = subject.exact
    network = Network(form.graph, form.score)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    assert np.allclose(network.logits(image), form.answers(image)[0], atol=1e-4)
    layer = [layer for layer in form.layers if layer.kind == "activation"][-1]
    weights = np.eye(10, dtype=np.float32)[3]
    _, (maps,), (slopes,) = form.gradient(image, weights, layer.tensor)
    values = (slopes.mean((2, 3), keepdims=True) * maps).sum(1)[0]
    found = network.grad_cam(image, 3)
    assert found.shape == (32, 32)
    assert found[16, 16] == pytest.approx(max(0, values[1, 1]), abs=1e-2)
    assert found[0, 0] == pytest.approx(max(0, values[0, 0]), abs=1e-4)
