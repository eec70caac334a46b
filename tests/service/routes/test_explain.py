"""How the model decides, asked over HTTP."""

from __future__ import annotations

import base64
import io
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from contract import bundle
from tests.support.models import COLOURS, colour_bundle, float32_bundle, greedy_bundle, slow_bundle
from tests.support.server import ROOT, SHIPPED, Server
from tests.support.waiting import eventually

CAT = (ROOT / "examples" / "cat.jpg").read_bytes()
JPEG = {"Content-Type": "image/jpeg"}
PNG = {"Accept": "image/png"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped int8 model with its float32 form, the same without, one of colours, a slow and a non-linear one."""
    root = tmp_path_factory.mktemp("models")
    for name in ("cifar10", "alone"):
        shutil.copytree(SHIPPED, root / name / "2")
    (root / "alone" / "2" / bundle.FLOAT32).unlink()
    float32_bundle(SHIPPED, root / "exact" / "1")
    colour_bundle(root)
    slow_bundle(root, seconds=0.2)
    greedy_bundle(root, "bent", gigabytes=0.001)
    return root


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server], repository: Path) -> Server:
    return serve("--models", str(repository), "--model", "cifar10", KERNELSCOPE_WORKERS="1")


def post(
    server: Server, path: str, image: bytes = CAT, headers: dict[str, str] | None = None, **query: Any
) -> httpx.Response:
    query = {name.rstrip("_"): value for name, value in query.items()}
    return server.client.post(path, content=image, headers={**JPEG, **(headers or {})}, params=query)


def explain(server: Server, **query: Any) -> dict[str, Any]:
    reply = post(server, "/explain", **query)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def refusal(reply: httpx.Response) -> tuple[int, str, str]:
    error = reply.json()["error"]
    return reply.status_code, error["code"], error["message"]


def pixels(reply: httpx.Response) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(reply.content)).convert("RGB"))


# --- explain


def test_contributions_add_up_to_the_score(server: Server) -> None:
    found = explain(server, class_="cat", against="dog", top=0)
    part = found["contributions"]
    assert (found["model"], found["version"], found["graph"], found["dtype"]) == ("cifar10", 2, "served", "int8")
    assert found["score"] == pytest.approx(found["class"]["logit"] - found["against"]["logit"], abs=1e-5)
    assert part["sum"] + part["bias"] + part["rounding"] == pytest.approx(found["score"], abs=1e-6)
    assert sum(one["value"] for one in part["channels"]) == pytest.approx(part["sum"], abs=1e-4)
    assert part["others"] == {"count": 0, "value": 0.0}
    assert np.sum(found["map"]["values"]) == pytest.approx(part["sum"], abs=1e-4)
    prediction = post(server, "/predict").json()
    assert (found["class"]["label"], found["class"]["index"]) == (prediction["label"], prediction["index"])
    assert found["class"]["probability"] == pytest.approx(prediction["probability"], abs=1e-5)


def test_the_strongest_channels_come_first_and_can_be_switched_off(server: Server) -> None:
    part = explain(server, model="exact", without="3,17")["contributions"]
    values = [abs(one["value"]) for one in part["channels"]]
    assert len(values) == 8
    assert values == sorted(values, reverse=True)
    assert part["others"]["count"] == 160 - 8
    assert part["without"]["channels"] == [3, 17]
    assert sum(part["without"]["probabilities"]) == pytest.approx(1, abs=1e-4)
    for one in part["channels"]:
        assert one["supports"][0]["value"] >= one["supports"][-1]["value"]


def test_the_twin_answers_where_gradients_are_needed_and_says_how_far_it_is(server: Server) -> None:
    for method in ("integrated_gradients", "gradient_activation"):
        found = explain(server, method=method, class_=3)
        exact = explain(server, method=method, class_="cat", model="exact")
        assert (found["graph"], found["dtype"]) == ("float32", "float32")
        assert exact["graph"] == "served"
        assert exact["logit_difference"] == 0 < found["logit_difference"] < 0.5
        np.testing.assert_allclose(found["map"]["values"], exact["map"]["values"], atol=1e-6)
        assert found["class"]["logit"] != exact["class"]["logit"]  # what is served says so, not its twin


def test_integrated_gradients_show_their_delta(server: Server) -> None:
    found = explain(server, method="integrated_gradients", baseline="grey", steps=20)
    part = found["integrated_gradients"]
    assert (part["baseline"], part["steps"]) == ("grey", 20)
    assert part["sum"] - part["delta"] == pytest.approx(found["score"] - part["baseline_score"], abs=1e-4)
    assert np.shape(found["map"]["values"]) == (32, 32)


def test_gradient_activation_takes_a_layer(server: Server) -> None:
    found = explain(server, method="gradient_activation", layer="relu4", model="exact")
    assert found["gradient_activation"]["layer"] == "relu4"
    assert np.shape(found["map"]["values"]) == (16, 16)
    assert found["map"]["step"] == [2, 2]


def test_occlusion_takes_its_patch(server: Server) -> None:
    found = explain(server, method="occlusion", patch=8, stride=8, fill="black")
    assert found["occlusion"] == {"fill": "black", "patch": [8, 8], "stride": [8, 8], "passes": 16}
    assert found["map"]["size"] == [8, 8]


@pytest.mark.parametrize("method", ["contributions", "occlusion", "integrated_gradients", "gradient_activation"])
def test_a_heat_map_is_a_picture_where_one_is_asked_for(server: Server, method: str) -> None:
    over, alone = (
        pixels(post(server, "/explain", headers=PNG, method=method, view=view)) for view in ("overlay", "alone")
    )
    assert over.shape == alone.shape == (256, 256, 3)
    assert not np.array_equal(over, alone)
    blocks = alone.reshape(32, 8, 32, 8, 3)
    assert np.array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))  # drawn as blocks


def test_kserves_path_has_the_same_answer(server: Server) -> None:
    body = {"instances": [{"b64": base64.b64encode(CAT).decode()}] * 2}
    reply = server.client.post("/v1/models/exact:explain?against=dog", json=body)
    assert reply.status_code == 200, reply.text
    first, second = reply.json()["explanations"]
    plain = explain(server, model="exact", against="dog")
    for answer in (first, second, plain):
        del answer["seconds"]
    assert first == second == plain
    versioned = server.client.post("/v1/models/exact/versions/1:explain?against=dog", json=body)
    assert versioned.json()["explanations"][0]["contributions"] == plain["contributions"]
    assert isinstance(server.client.post("/v1/models/exact:explain?method=x", json=body).json()["error"], str)


# --- activations


def test_activations_are_the_same_in_every_form(server: Server) -> None:
    found = post(server, "/activations", layer="relu2").json()
    maps = np.array(found["maps"])
    assert found["shape"] == [31, 31, 64]
    assert maps.shape == (64, 31, 31)
    raw = post(server, "/activations", layer="relu2", headers={"Accept": "application/octet-stream"})
    assert raw.headers["x-kernelscope-shape"] == "31,31,64"
    values = np.frombuffer(raw.content, "<f4").reshape(64, 31, 31)
    np.testing.assert_allclose(values, maps, atol=1e-5)
    one = post(server, "/activations", layer="relu2", channel=5).json()
    np.testing.assert_allclose(one["maps"][0], maps[5], atol=1e-5)
    assert one["channels"][0] == found["channels"][5]
    assert maps[5][one["channels"][0]["row"], one["channels"][0]["column"]] == maps[5].max()
    sheet = post(server, "/activations", layer="relu2", headers=PNG)
    assert float(sheet.headers["x-kernelscope-scale"]) == pytest.approx(np.abs(maps).max(), rel=1e-4)
    height, width = (int(side) for side in sheet.headers["x-kernelscope-tile"].split(","))
    across = int(sheet.headers["x-kernelscope-columns"])
    drawn = pixels(sheet)
    channel, row, column = np.argwhere(maps == maps.max())[0]
    top, left = channel // across * height, channel % across * width
    times = (height - 1) // 31
    assert tuple(drawn[top + row * times, left + column * times]) == (178, 24, 43)
    channel, row, column = np.argwhere(maps == 0)[0]
    top, left = channel // across * height, channel % across * width
    assert tuple(drawn[top + row * times, left + column * times]) == (247, 247, 247)


def test_what_the_network_sees_is_a_layer_too(server: Server) -> None:
    seen = post(server, "/activations", layer="images", headers=PNG)
    found = post(server, "/activations", layer="images").json()
    raw = post(server, "/activations", layer="images", headers={"Accept": "application/octet-stream"})
    image = pixels(seen)
    assert image.shape == (32, 32, 3)
    np.testing.assert_array_equal(np.array(found["maps"]), image.transpose(2, 0, 1))
    assert raw.headers["x-kernelscope-shape"] == "32,32,3"
    np.testing.assert_array_equal(np.frombuffer(raw.content, "<f4").reshape(3, 32, 32), image.transpose(2, 0, 1))
    one = post(server, "/activations", layer="images", channel=2).json()
    assert one["maps"] == [image[..., 2].tolist()]


def test_the_arithmetic_of_a_unit_is_the_maps_value(server: Server) -> None:
    maps = np.array(post(server, "/activations", layer="conv2", model="exact").json()["maps"])
    found = post(server, "/activations", layer="conv2", unit="3,4,5", model="exact").json()
    assert found["value"] == pytest.approx(maps[5, 3, 4], abs=1e-5)
    assert found["sum"] + found["bias"] + found["rounding"] == pytest.approx(found["value"], abs=1e-6)
    assert found["region"] == {"top": 2, "left": 3, "bottom": 6, "right": 7}


# --- layers and kernels


def test_layers_are_those_that_the_other_routes_take(server: Server) -> None:
    found = server.client.get("/models/cifar10/layers").json()
    assert found["methods"] == ["contributions", "occlusion", "integrated_gradients", "gradient_activation"]
    assert set(found["cannot"]) == {"features", "neighbours"}  # nothing was prepared for it
    for layer in found["layers"]:
        shown = post(server, "/activations", layer=layer["layer"], channel=0).json()
        assert shown["shape"] == layer["output"]
        assert server.client.get(f"/models/cifar10/kernels?layer={layer['layer']}").is_success == layer["has_kernels"]


def test_kernels_are_a_sheet_or_numbers(server: Server) -> None:
    sheet = server.client.get("/models/cifar10/kernels?layer=conv1")
    assert pixels(sheet).shape[2] == 3
    found = server.client.get(
        "/models/cifar10/kernels?layer=conv2&channel=7", headers={"Accept": "application/json"}
    ).json()
    assert found["shape"] == [64, 3, 3, 24]
    assert np.shape(found["kernels"]) == (1, 24, 3, 3)
    unit = post(server, "/activations", layer="conv2", unit="3,4,7").json()
    np.testing.assert_allclose(unit["channels"][9]["kernel"], found["kernels"][0][9], atol=1e-6)
    assert unit["bias"] == pytest.approx(found["bias"][0], abs=1e-6)


# --- what is refused


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/explain", {"method": "gradcam"}, (422, "unknown_method", "choose from contributions, occlusion")),
        ("/explain", {"class_": "fox"}, (422, "unknown_class", "the classes are airplane, automobile")),
        ("/explain", {"against": "99"}, (422, "unknown_class", "or 0 to 9")),
        ("/explain", {"class_": "cat", "against": "3"}, (422, "invalid_parameter", "the class itself, cat")),
        ("/explain", {"patch": 3}, (422, "invalid_parameter", "patch is an option of occlusion")),
        ("/explain", {"method": "occlusion", "patch": 40}, (422, "invalid_parameter", "32 by 32 pixels")),
        ("/explain", {"method": "occlusion", "fill": "pink"}, (422, "invalid_parameter", "choose from blur, grey")),
        ("/explain", {"without": "3,x"}, (422, "invalid_parameter", "give whole numbers")),
        ("/explain", {"without": "999"}, (404, "unknown_channel", "its channels are 0 to 159")),
        ("/explain", {"method": "gradient_activation", "layer": "x"}, (404, "unknown_layer", "choose from mul1")),
        ("/explain", {"method": "gradient_activation", "layer": "softmax1"}, (409, "cannot_explain", "no gradient")),
        ("/explain", {"model": "nobody"}, (404, "unknown_model", "models here")),
        ("/explain", {"version": 9}, (404, "unknown_model", "versions here")),
        (
            "/explain",
            {"model": "alone", "method": "integrated_gradients"},
            (409, "cannot_explain", "use contributions, occlusion"),
        ),
        (
            "/explain",
            {"model": "bent", "method": "contributions"},
            (409, "cannot_explain", "use occlusion, integrated_gradients, gradient_activation"),
        ),
        ("/activations", {}, (422, "invalid_parameter", "layer")),
        ("/activations", {"layer": "conv99"}, (404, "unknown_layer", "choose from mul1, conv1")),
        ("/activations", {"layer": "relu1", "channel": 24}, (404, "unknown_channel", "0 to 23")),
        ("/activations", {"layer": "relu1", "unit": "31,0,0"}, (422, "unknown_unit", "from 0,0,0 to 30,30,23")),
        ("/activations", {"layer": "relu1", "unit": "1,2"}, (422, "invalid_parameter", "row,column,channel")),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    server: Server, path: str, query: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    status, code, message = refusal(post(server, path, **query))
    assert (status, code) == expected[:2]
    assert expected[2] in message


def test_what_is_no_image_is_refused_as_by_predict(server: Server) -> None:
    for path in ("/explain", "/activations?layer=conv1"):
        for content in (b"", b"no image", CAT[:100]):
            theirs = server.client.post("/predict", content=content, headers=JPEG)
            ours = server.client.post(path, content=content, headers=JPEG)
            assert refusal(ours) == refusal(theirs)


def test_kernels_of_what_has_none_are_refused_with_what_has(server: Server) -> None:
    status, code, message = refusal(server.client.get("/models/cifar10/kernels?layer=relu1"))
    assert (status, code) == (409, "cannot_explain")
    assert "choose from conv1, conv2" in message


# --- the process that explains


def test_other_peoples_models_are_explained(server: Server) -> None:
    red = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(red, "PNG")
    asked: list[dict[str, Any]] = [
        {},
        {"method": "occlusion"},
        {"method": "integrated_gradients", "baseline": "black"},
    ]
    for options in asked:
        found = post(server, "/explain", red.getvalue(), model="colours", **options).json()
        assert found["class"]["label"] == COLOURS[0]
        assert np.sum(found["map"]["values"]) > 0


def test_when_too_many_wait_the_rest_is_refused_and_predict_goes_on(server: Server) -> None:
    def ask(_: int) -> httpx.Response:
        return httpx.post(
            f"{server.url}/explain?model=slow&method=occlusion&timeout=20", content=CAT, headers=JPEG, timeout=60
        )

    with ThreadPoolExecutor(16) as threads:
        asked = [threads.submit(ask, number) for number in range(16)]
        refused = [one.result() for one in asked if one.result().status_code == 503]
    codes = {refusal(reply)[1] for reply in refused}
    assert "explanations_busy" in codes
    assert codes <= {"explanations_busy", "deadline_exceeded"}
    busy = next(reply for reply in refused if refusal(reply)[1] == "explanations_busy")
    assert busy.headers["retry-after"] == "1"
    assert post(server, "/predict").status_code == 200


def test_a_process_that_ends_is_started_anew(server: Server) -> None:
    explain(server)
    (before,) = explaining(server)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: post(server, "/explain").is_success)
    (after,) = explaining(server)
    assert after != before


def test_it_ends_with_the_server(serve: Callable[..., Server]) -> None:
    server = serve("--models", str(ROOT / "models"))
    explain(server)
    (process,) = explaining(server)
    assert server.end() == 0
    assert not Path(f"/proc/{process}").exists()


def test_its_memory_has_a_bound(serve: Callable[..., Server]) -> None:
    server = serve(
        "--models", str(ROOT / "models"), KERNELSCOPE_EXPLAIN_MEMORY=str(256 * 2**20), KERNELSCOPE_VERSIONS="all"
    )
    for _ in range(3):
        reply = post(server, "/explain", version=3, method="integrated_gradients")
        assert reply.status_code in (200, 503), reply.text
    for process in explaining(server):
        status = Path(f"/proc/{process}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmData"))
        assert int(line.split()[1]) <= 256 * 1024


def explaining(server: Server) -> list[int]:
    """The processes that explain for a server."""
    found, parents = [], {server.process.pid}
    for _ in range(3):  # the supervisor's children, and theirs
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, rest = path.read_text().rsplit(")", 1)
                command = (path.parent / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(rest.split()[1]) in parents:
                number = int(name.split()[0])
                parents.add(number)
                if b"service.explanation.worker" in command and number not in found:
                    found.append(number)
    return found
