"""The training pipeline, started from the command line in processes of their own."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from contract.bundle import INPUT, LOGITS, MODEL, PROBABILITIES, README, Bundle, read
from contract.typed_json import encode
from kernelscope.cli import main
from tests.support.images import class_folder
from tests.support.server import Server, command
from tests.support.waiting import eventually
from training import recipes
from training.evaluation import calibrate, evaluate
from training.loop import checkpoint, trainer


def lenient(*words: str) -> list[str]:
    """The command, with warnings that are no errors: TensorFlow warns of itself."""
    return [word for word in command(*words) if word not in {"-W", "error"}]


def kernelscope(
    where: Path, *words: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        lenient(*words),
        cwd=where,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    class_folder(root / "colours", each=40, size=(32, 32))
    return root


@pytest.fixture(scope="module", autouse=True)
def _own_cache(place: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNELSCOPE_CACHE", str(place / "cache"))
        yield


@pytest.fixture(scope="module", params=["fast", "seed"])
def bundle(request: pytest.FixtureRequest, place: Path) -> Bundle:
    recipe: str = request.param
    done = kernelscope(
        place,
        *("train", "--recipe", recipe, "--data", "colours", "--output", f"out-{recipe}"),
        *("--epochs", "3", "--batch-size", "16", "--precision", "float32"),
        *("--features", "0.02", "--keep-examples"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kernelscope serve --models" in done.stdout
    return read(place / f"out-{recipe}" / "colours" / "1")


def test_a_bundle_has_all_that_the_plan_names(bundle: Bundle) -> None:
    card = bundle.card
    assert card.labels == ("blue", "green", "red")
    assert (card.height, card.width) == (32, 32)
    assert card.accuracy.split == "test"
    assert card.accuracy.images == 39
    assert card.cost.parity is not None
    assert card.cost.parity < 1e-4
    assert card.cost.bytes == bundle.model.stat().st_size
    assert card.cost.multiply_adds == sum(layer.multiply_adds for layer in card.cost.layers) > 1e6
    assert card.cost.parameters == sum(layer.parameters for layer in card.cost.layers)
    assert 0 <= card.unsure_below <= 1
    assert card.accuracy.unsure is not None
    assert set(card.accuracy.unsure.unknown) == {"noise", "stripes", "clouds", "shuffled tiles"}
    assert (card.data.train, card.data.validation) == (108, 12)
    assert str(bundle.folder.parent.parent.parent) not in card.to_json()
    assert "classified correctly" in (bundle.folder / README).read_text()
    model = onnx.load(bundle.model)
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}["card"]) == json.loads(card.to_json())


def test_the_report_shows_the_run(bundle: Bundle) -> None:
    folder = bundle.folder / "report"
    page = (folder / "report.html").read_text()
    plots = sorted(path.stem for path in folder.glob("*.png"))
    assert [name for name in ("confusion", "curves", "reliability") if name not in plots] == []
    assert sorted(set(re.findall(r'<img src="(\w+)\.png"', page))) == plots
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 100
    assert f"{bundle.card.accuracy.accuracy:.2%}" in page
    for layer in bundle.card.cost.layers:
        assert f"<td>{layer.name}</td>" in page
    assert "32×32×" in page or "31×31×" in page


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_trains_and_its_network_is_served(
    place: Path, backend: str, serve: Callable[..., Server]
) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    words = ("train", "--data", "colours", "--output", f"out-{backend}", "--run", f"runs/{backend}", "--epochs", "2")
    (place / "training").mkdir(exist_ok=True)  # not to be taken for the package of that name
    done = kernelscope(place, *words, "--batch-size", "16", environment={"KERAS_BACKEND": backend})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch   2/2" in done.stdout
    bundle = read(place / f"out-{backend}" / "colours" / "1")
    card = bundle.card
    assert card.cost.parity is not None
    assert card.cost.parity < 1e-4
    kept = checkpoint.read(place / "runs" / backend)
    assert kept is not None
    network = recipes.FAST.network.build((32, 32), 3)
    for variable, value in zip(network.weights, kept.arrays["best"], strict=True):
        variable.assign(value)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    logits = trainer.predict(network, images)
    np.testing.assert_allclose(evaluate.predict_logits(bundle, images), logits, atol=1e-4)
    assert card.training.versions[backend]
    server = serve("--models", str(place / f"out-{backend}"))
    for image, scores in zip(images, logits, strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        assert server.client.post("/predict", content=file.getvalue()).json()["label"] == card.labels[scores.argmax()]
    assert server.end() == 0


def test_without_tensorflow_the_network_is_kept_and_exported_where_that_is(place: Path) -> None:
    words = ("train", "--data", "colours", "--output", "out-later", "--run", "runs/later", "--epochs", "1")
    hidden = (
        "import importlib.util as util, sys; find = util.find_spec; "
        "util.find_spec = lambda name, package=None: None if name == 'tensorflow' else find(name, package); "
        "from kernelscope import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden, *words],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("TensorFlow, which the export needs, is not installed")
    assert "pip install 'kernelscope[train]' and repeat the same command with --resume" in done.stderr
    assert not (place / "out-later").exists()
    done = kernelscope(place, *words, "--resume", environment={"KERAS_BACKEND": "jax"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch" not in done.stdout
    assert (place / "out-later" / "colours" / "1" / "model.onnx").is_file()


def test_what_a_device_loop_needs_is_said(place: Path) -> None:
    words = ("train", "--data", "colours", "--run", "runs/devices")
    done = kernelscope(place, *words, "--executor", "resident")
    assert done.returncode == 2, done.stderr
    assert "the executor resident needs JAX: set KERAS_BACKEND=jax, or leave --executor out" in done.stderr
    done = kernelscope(place, *words, environment={"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cuda,cpu"})
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("kernelscope train: JAX_PLATFORMS is cuda,cpu, but JAX finds no such device")
    assert done.stderr.count("\n") == 1
    done = kernelscope(place, *words, environment={"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cuda"})
    assert done.returncode == 2, done.stderr
    assert "JAX_PLATFORMS is cuda: add cpu" in done.stderr


def test_the_graph_is_folded(bundle: Bundle) -> None:
    kinds = [node.op_type for node in onnx.load(bundle.model).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Transpose") <= 1
    assert kinds.count("Conv") in (6, 7)


def test_the_bundle_answers(bundle: Bundle) -> None:
    session = onnxruntime.InferenceSession(bundle.model)
    red = np.zeros((5, 32, 32, 3), np.uint8)
    red[..., 0] = 250
    probabilities, logits = session.run([PROBABILITIES, LOGITS], {INPUT: red})
    assert probabilities.shape == logits.shape == (5, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    recipe = recipes.find(bundle.card.training.recipe or "")
    assert bundle.card.label_smoothing == (recipe.label_smoothing or None)
    unsmoothed = calibrate.unsmoothed(logits, bundle.card.label_smoothing)
    expected = calibrate.softmax(unsmoothed, bundle.card.temperature)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)


def test_what_its_channels_respond_to_is_served(bundle: Bundle, serve: Callable[..., Server]) -> None:
    server = serve("--models", str(bundle.folder.parents[1]))
    layer = server.client.get("/models/colours/layers").json()["stored"]["features"][0]
    answer = server.client.get("/models/colours/features", params={"layer": layer, "channel": 0})
    assert answer.status_code == 200, answer.text
    assert answer.json()["strongest"]


def test_it_is_served(bundle: Bundle, place: Path, serve: Callable[..., Server]) -> None:
    """And says of each test image what the bundle says, and of all of them what its card says."""
    server = serve("--models", str(bundle.folder.parent.parent))
    files = sorted(place.glob("colours/test/*/*.png"))
    said = [server.client.post("/predict", content=file.read_bytes()).json()["label"] for file in files]
    answers = evaluate.predict_logits(bundle, np.stack([np.asarray(Image.open(file)) for file in files])).argmax(1)
    assert said == [bundle.card.labels[answer] for answer in answers]
    right = np.mean([label == file.parent.name for label, file in zip(said, files, strict=True)])
    assert right == pytest.approx(bundle.card.accuracy.accuracy, abs=1e-4)
    assert server.client.get("/models").json()["models"][0]["accuracy"] == bundle.card.accuracy.accuracy
    assert server.end() == 0


def test_evaluating_prints_what_the_card_says(bundle: Bundle, place: Path) -> None:
    done = kernelscope(place, "evaluate", str(bundle.folder), "--data", "colours", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == encode(dataclasses.replace(bundle.card.accuracy, unsure=None, corruptions=None))
    done = kernelscope(place, "evaluate", str(bundle.folder), "--data", "colours", "--json", "--corruptions")
    assert json.loads(done.stdout) == encode(dataclasses.replace(bundle.card.accuracy, unsure=None))
    shown = kernelscope(place, "evaluate", str(bundle.folder), "--data", "colours", "--corruptions")
    assert f"{bundle.card.accuracy.accuracy:.2%} of 39 images" in shown.stdout
    corruptions = bundle.card.accuracy.corruptions
    assert corruptions is not None
    assert corruptions.images == 39
    assert re.findall(r"^ (clean|JPEG 75|JPEG 50|blur|noise|brightness) +\d", shown.stdout, re.MULTILINE) == list(
        corruptions.accuracy
    )
    for kind, accuracy in corruptions.accuracy.items():
        assert f"| {kind} | {accuracy:.1%} |" in (bundle.folder / README).read_text()
        assert f"<td>{kind}</td>" in (bundle.folder / "report" / "report.html").read_text()


def test_ctrl_c_saves_and_says_how_to_go_on(place: Path) -> None:
    words = ["train", "--data", "colours", "--output", "out-stopped", "--run", "runs/stopped", "--batch-size", "16"]
    said = []
    with subprocess.Popen(
        [word for word in command(*words, "--epochs", "5000") if word not in ("-W", "error")],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("epoch   2/"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, "".join(said)
    assert "kernelscope train --data colours" in said[-1]
    assert said[-1].rstrip().endswith("--resume")
    assert not (place / "out-stopped").exists()
    done = kernelscope(place, *words, "--epochs", "3", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming at step" in done.stdout
    assert (place / "out-stopped" / "colours" / "1" / MODEL).is_file()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            ["train", "--data", "colours", "--recipe", "slow"],
            2,
            "choose auto, transfer, fast, small, small-jpeg, robust, best, seed, seed-plus",
        ),
        (["train", "--data", "colours", "--name", "a/b"], 2, "cannot name a model"),
        (["train", "--data", "colours/train/red"], 1, "stand in no class folders"),
        (["train", "--data", "colours", "--validation-fraction", "2"], 2, "between 0 and 1"),
        (["train", "--data", "colours", "--output", "colours/train/red/0.png", "--epochs", "1"], 1, "cannot write"),
        (["train", "--data", "colours", "--run", "colours/train/red/0.png", "--epochs", "1"], 1, "File exists"),
        (["evaluate", "absent", "--data", "colours"], 1, "absent is not a folder"),
    ],
)
def test_a_mistake_is_one_line(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    says: str,
) -> None:
    """In this process: a TensorFlow's start for each would be most of the time that the tests take."""
    monkeypatch.chdir(place)
    assert main(words) == code
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 1


def test_a_mistake_in_a_process_of_its_own_is_one_line_too(place: Path) -> None:
    done = kernelscope(place, "train", "--data", "absent")
    assert done.returncode == 2
    assert "there are no data at 'absent'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_backend_that_is_none_is_one_line(place: Path) -> None:
    done = kernelscope(place, "train", "--data", "colours", environment={"KERAS_BACKEND": "theano"})
    assert done.returncode == 2
    assert done.stderr == "kernelscope train: KERAS_BACKEND is 'theano': set it to one of tensorflow, jax, torch\n"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--epochs", "0"],
        ["train", "--epochs", "many"],
        ["train", "--time-budget", "soon"],
        ["train", "--size", "9"],
        ["train", "--seed", "-1"],
        ["train", "--resize-mode", "stretch"],
        ["evaluate"],
    ],
)
def test_wrong_usage_exits_with_2(place: Path, words: list[str]) -> None:
    done = kernelscope(place, *words)
    assert done.returncode == 2
    assert "usage: kernelscope" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_killed_goes_on_and_ends_as_the_whole_one(place: Path) -> None:
    """kill -9 once an epoch is saved, and again once two more are: at most one epoch is done again."""
    data = ("train", "--recipe", "seed", "--data", "colours")
    words = (*data, "--epochs", "6", "--batch-size", "16", "--precision", "float32")
    whole = kernelscope(place, *words, "--output", "whole", "--run", "run-whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr

    log = place / "run-killed" / "log.csv"

    def epochs() -> int:
        return len(log.read_text().splitlines()) - 1 if log.is_file() else 0

    def kill_after(count: int) -> None:
        process = subprocess.Popen(
            lenient(*words, "--output", "killed", "--run", "run-killed", "--resume"),
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda: epochs() >= count or process.poll() is not None)
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        process.wait()

    kill_after(1)
    kill_after(3)
    done = kernelscope(place, *words, "--output", "killed", "--run", "run-killed", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming at step" in done.stdout
    first, second = (checkpoint.read(place / name) for name in ("run-whole", "run-killed"))
    assert first is not None
    assert second is not None
    for name, arrays in first.arrays.items():
        for mine, theirs in zip(arrays, second.arrays[name], strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
    rows = [line.split(",")[:2] for line in log.read_text().splitlines()[1:]]
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4, 5, 6]


def test_onednn_is_asked_for_before_tensorflow_loads_unless_a_person_says_otherwise() -> None:
    name = "TF_ENABLE_ONEDNN_OPTS"
    look = f"import os, sys, training; print(os.environ[{name!r}], 'tensorflow' in sys.modules)"
    unset = {key: value for key, value in os.environ.items() if key != name}
    for given, seen in ((unset, "1 False"), ({**unset, name: "0"}, "0 False")):
        done = subprocess.run([sys.executable, "-c", look], env=given, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == seen
