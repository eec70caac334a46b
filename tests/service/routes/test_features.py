"""What was prepared beside a bundle, asked over HTTP."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from contract import bundle
from contract.network.embedding import embed
from contract.network.form import Form
from contract.preprocessing import Pixels
from tests.support import planted
from tests.support.server import Server
from training.data.dataset import Dataset
from training.data.split import Split
from training.export import features

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def images() -> Pixels:
    return planted.planted_images(60, 3)[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its training images kept, the same without, and one with nothing beside it."""
    root = tmp_path_factory.mktemp("models")
    made = planted.planted_bundle(root)
    card = replace(made.card, cost=replace(made.card.cost, dtype="float32"))
    (made.folder / bundle.CARD).write_text(card.to_json())
    pixels, targets = planted.planted_images(60, 3)
    split = Split(pixels, targets.astype(np.int64), tuple(f"train/{number}\udcff.png" for number in range(60)))
    dataset = Dataset("planted", planted.LABELS, split, split, None, "crop", "0")
    for name, keep in (("kept", True), ("private", False), ("bare", None)):
        folder = root / name / "1"
        folder.mkdir(parents=True)
        for file in (bundle.MODEL, bundle.CARD):
            (folder / file).write_bytes((made.folder / file).read_bytes())
        if keep is not None:
            features.make(bundle.read(folder), dataset, Console(quiet=True), seconds=60, steps=2, keep_examples=keep)
    return root


@pytest.fixture(scope="module")
def kept(root: Path) -> Path:
    """The bundle with its training images kept."""
    return root / "kept" / "1"


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server], root: Path) -> Server:
    return serve("--models", str(root), "--model", "kept", KERNELSCOPE_WORKERS="1")


def encoded(image: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def neighbours(server: Server, image: Pixels, **query: Any) -> httpx.Response:
    return server.client.post("/neighbours", content=encoded(image), headers=PNG, params=query)


def picture(address: str) -> Any:
    head, _, data = address.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_channel_is_shown_by_training_images_and_one_that_was_made(server: Server, images: Pixels) -> None:
    found = server.client.get("/models/kept/features?layer=conv2&channel=3").json()
    assert (found["layer"], found["channel"], found["images"]) == ("conv2", 3, 60)
    values = [one["activation"] for one in found["strongest"]]
    assert values == sorted(values, reverse=True)
    first = found["strongest"][0]
    assert first["file"] == f"train/{first['index']}?.png"  # what is no text is replaced
    shown = picture(first["thumbnail"])
    assert np.abs(shown.astype(int) - images[first["index"]]).mean() < 10  # a JPEG of that very image
    url = f"/activations?model=kept&layer=conv2&unit={first['row']},{first['column']},3"
    unit = server.client.post(url, content=encoded(images[first["index"]]), headers=PNG).json()
    assert unit["value"] == pytest.approx(first["activation"], rel=1e-4)
    assert unit["region"] == first["region"]
    assert found["weakest"][0]["activation"] <= found["weakest"][-1]["activation"] < values[-1]
    assert picture(found["synthetic"]["image"]).shape == (32, 32, 3)
    assert found["synthetic"]["share"] == pytest.approx(found["synthetic"]["activation"] / values[0], rel=1e-4)


def test_an_activation_shows_what_its_convolution_responds_to(server: Server) -> None:
    of_relu, of_conv = (
        server.client.get(f"/models/kept/features?layer={layer}&channel=3").json() for layer in ("relu2", "conv2")
    )
    assert of_relu == of_conv


def test_the_layers_tell_what_can_be_asked_for(server: Server) -> None:
    kept, bare = (server.client.get(f"/models/{name}/layers").json() for name in ("kept", "bare"))
    for layer in kept["layers"]:
        reply = server.client.get(f"/models/kept/features?layer={layer['layer']}&channel=0")
        assert (reply.status_code == 200) == (layer["layer"] in kept["stored"]["features"]), layer["layer"]
    assert kept["stored"]["neighbours"]
    assert not {"features", "neighbours"} & set(kept["cannot"])
    assert bare["stored"] == {"features": [], "neighbours": False}
    refused = server.client.get("/models/bare/features?layer=conv1&channel=0").json()["error"]["message"]
    assert bare["cannot"]["features"] == bare["cannot"]["neighbours"] == refused


def test_training_images_are_private_unless_they_were_kept(server: Server, images: Pixels) -> None:
    found = server.client.get("/models/private/features?layer=conv1&channel=0").json()
    assert all(one["thumbnail"] is None for one in (*found["strongest"], *found["weakest"]))
    near = neighbours(server, images[7], model="private").json()["neighbours"]
    assert all(one["thumbnail"] is None for one in near)
    assert "data:image/jpeg" not in json.dumps([found, near])


def test_the_nearest_neighbours_of_a_training_image_are_it_and_its_like(
    server: Server, kept: Path, images: Pixels
) -> None:
    vectors = embed(Form(kept / bundle.MODEL, planted.LABELS), images)
    for number in (0, 7, 59):
        found = neighbours(server, images[number], count=3).json()
        assert (found["images"], len(found["neighbours"])) == (60, 3)
        first, *others = found["neighbours"]
        assert first["similarity"] == pytest.approx(1, abs=2e-3)  # the index has half the digits
        for one in found["neighbours"]:
            assert one["similarity"] == pytest.approx(float(vectors[one["index"]] @ vectors[number]), abs=2e-3)
        assert first["similarity"] >= others[0]["similarity"] >= others[1]["similarity"]
        assert picture(first["thumbnail"]).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("/models/bare/features?layer=conv1&channel=0", 409, "not_prepared", "kernelscope features bare/1 --data DATA"),
        ("/models/kept/features?layer=conv9&channel=0", 404, "unknown_layer", "choose from"),
        ("/models/kept/features?layer=conv1&channel=8", 404, "unknown_channel", "0 to 7"),
        ("/models/kept/features?layer=softmax1&channel=0", 409, "not_prepared", "choose from conv1, conv2"),
        ("/models/kept/features?layer=conv1", 422, "invalid_parameter", "channel"),
        ("/models/kept/features?layer=conv1&channel=x", 422, "invalid_parameter", "channel"),
    ],
)
def test_what_is_not_there_is_refused(server: Server, path: str, status: int, code: str, message: str) -> None:
    reply = server.client.get(path)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert message in error["message"]


def test_neighbours_of_a_model_without_any_are_refused_with_what_to_do(server: Server, images: Pixels) -> None:
    reply = neighbours(server, images[0], model="bare")
    assert reply.status_code == 409
    assert "kernelscope features bare/1 --data DATA makes it" in reply.json()["error"]["message"]
    assert neighbours(server, images[0], count=0).status_code == 422
