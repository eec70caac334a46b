"""An imported model is served, explained where its graph allows it, and says why where it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kernelscope
from tests.support import foreign
from tests.support.images import image
from tests.support.server import Server


@pytest.fixture(scope="module")
def served(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    root = tmp_path_factory.mktemp("imported")
    stubborn = foreign.classifier(shape=(1, 3, *foreign.SIZE), flatten="Expand 1")
    for name, model in (("pets", foreign.classifier(end="Softmax")), ("stubborn", stubborn)):
        file = foreign.save(model, root / "files", f"{name}.onnx")
        kernelscope.import_model(file, foreign.LABELS, name=name, output=root / "models", progress=False)
    return serve("--models", str(root / "models"))


@pytest.mark.parametrize("name", ["pets", "stubborn"])
def test_it_predicts_one_and_several(served: Server, name: str) -> None:
    one = served.client.post("/predict", params={"model": name}, content=image())
    assert one.status_code == 200, one.text
    files = [("file", image(colour)) for colour in ("red", "green", "blue")]
    several = served.client.post("/predict/batch", params={"model": name}, files=files)
    assert several.status_code == 200, several.text
    assert several.json()["predictions"][0]["top"] == one.json()["top"]


def test_it_is_explained(served: Server) -> None:
    explained = served.client.post("/explain", params={"model": "pets"}, content=image())
    assert explained.status_code == 200, explained.text
    layers = served.client.get("/models/pets/layers").json()["layers"]
    assert "convolution" in {layer["kind"] for layer in layers}


def test_what_is_run_one_by_one_says_why_it_is_not(served: Server) -> None:
    for reply in (
        served.client.post("/explain", params={"model": "stubborn"}, content=image()),
        served.client.get("/models/stubborn/layers"),
    ):
        assert reply.status_code == 409
        assert reply.json()["error"]["code"] == "cannot_explain"
        assert "Scan 'kernelscope/scan' holds a part of the network" in reply.json()["error"]["message"]
