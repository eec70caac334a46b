from __future__ import annotations

import base64
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.images import image, png_of_size
from tests.support.models import colour_bundle
from tests.support.server import Server


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_three_forms_of_one_image_get_one_answer(server: Server) -> None:
    red = image("red")
    replies = [
        server.client.post("/predict", content=red, headers={"content-type": "image/png"}),
        server.client.post("/predict", content=red, headers={"content-type": "application/octet-stream"}),
        server.client.post("/predict", content=red),
        server.client.post("/predict", files={"file": ("red.png", red)}),
        server.client.post("/predict", files={"anything": red}),
        server.client.post("/predict", json={"image": b64(red)}),
        server.client.post("/predict", json={"image": "data:image/png;base64," + b64(red)}),
    ]
    assert [reply.status_code for reply in replies] == [200] * len(replies)
    bodies = [reply.json() for reply in replies]
    assert all(body == bodies[0] for body in bodies)
    first = bodies[0]
    assert first["model"] == "colours"
    assert first["version"] == 1
    assert (first["label"], first["index"]) == ("red", 0)
    assert first["top"][0] == {key: first[key] for key in ("label", "index", "probability")}
    assert sum(answer["probability"] for answer in first["top"]) == pytest.approx(1, abs=1e-5)


def test_an_answer_below_the_threshold_is_unsure(tmp_path: Path, serve: Callable[..., Server]) -> None:
    """Both ways to ask, alone and among others."""
    colour_bundle(tmp_path, unsure_below=0.9)
    client = serve("--models", str(tmp_path)).client
    grey = io.BytesIO()
    Image.new("RGB", (8, 8), (120, 110, 110)).save(grey, "PNG")
    for content, unsure in ((image("red"), False), (grey.getvalue(), True)):
        first = client.post("/predict", content=content).json()
        assert (first["label"], first["unsure"]) == ("red", unsure)
        (again,) = client.post("/predict/batch", files=[("file", content)]).json()["predictions"]
        assert again["unsure"] is unsure
        assert client.post("/predict?top_k=1", content=content).json()["unsure"] is unsure


def test_a_model_without_a_threshold_is_never_unsure(server: Server) -> None:
    assert server.client.post("/predict", content=image("green")).json()["unsure"] is False


def test_top_k(server: Server) -> None:
    reply = server.client.post("/predict?top_k=2", content=image("green")).json()
    assert len(reply["top"]) == 2
    assert reply["top"][0]["label"] == "green"


def test_a_model_and_version_by_name(server: Server) -> None:
    assert server.client.post("/predict?model=colours&version=1", content=image("blue")).json()["label"] == "blue"


def test_any_size_and_kind_of_image(server: Server) -> None:
    for kind, size, mode in [
        ("JPEG", (640, 480), "RGB"),
        ("JPEG", (90, 300), "CMYK"),
        ("PNG", (33, 7), "P"),
        ("PNG", (100, 100), "RGBA"),
        ("WEBP", (50, 60), "RGB"),
        ("BMP", (9, 9), "RGB"),
        ("TIFF", (64, 32), "RGB"),
        ("GIF", (12, 12), "P"),
    ]:
        reply = server.client.post("/predict", content=image("blue", size, kind, mode))
        assert reply.json().get("label") == "blue", (kind, size, mode, reply.text)


def test_a_batch_is_answered_in_order_and_errors_stand_in_place(server: Server) -> None:
    sent = [image("red"), b"no image", image("blue"), image("green")]
    form = server.client.post("/predict/batch", files=[("file", (f"{i}.png", data)) for i, data in enumerate(sent)])
    as_json = server.client.post("/predict/batch", json={"images": [*map(b64, sent), "?"]})
    assert form.status_code == as_json.status_code == 200
    assert [p.get("label") for p in form.json()["predictions"]] == ["red", None, "blue", "green"]
    predictions = as_json.json()["predictions"]
    assert predictions[:4] == form.json()["predictions"]
    assert predictions[1]["error"]["code"] == "unsupported_image"
    assert predictions[4]["error"]["code"] == "invalid_base64"


def test_a_batch_equals_its_images_one_by_one(server: Server) -> None:
    sent = [image(colour, (20, 10), "JPEG") for colour in ("red", "green", "blue")]
    batch = server.client.post("/predict/batch", files=[("file", data) for data in sent]).json()["predictions"]
    single = [server.client.post("/predict", content=data).json() for data in sent]
    assert batch == single


def test_many_at_once_each_get_their_own_answer(server: Server) -> None:
    colours = ["red", "green", "blue"] * 40
    sent = {colour: image(colour, (40, 40)) for colour in set(colours)}
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda colour: server.client.post("/predict", content=sent[colour]).json()["label"], colours)
        assert list(answers) == colours


JSON = {"content-type": "application/json"}
REFUSED = {
    "empty body": ({"content": b""}, 400, "empty"),
    "text": ({"content": b"hello", "headers": {"content-type": "image/png"}}, 415, "unsupported_image"),
    "cut jpeg": ({"content": image("red", (64, 64), "JPEG")[:640]}, 422, "undecodable_image"),
    "0x0": ({"content": png_of_size(0, 0)}, 422, "undecodable_image"),
    "bomb": ({"content": png_of_size(50_000, 50_000)}, 413, "too_large"),
    "many pixels": ({"content": png_of_size(2_001, 2_000)}, 413, "too_large"),
    "svg": ({"content": b"<svg/>", "headers": {"content-type": "image/svg+xml"}}, 415, "unsupported_image"),
    "long body": ({"content": b"x" * 300_001}, 413, "too_large"),
    "wrong content type": (
        {"content": b"x", "headers": {"content-type": "text/html"}},
        415,
        "unsupported_content_type",
    ),
    "form, not multipart": ({"data": {"file": "x"}}, 415, "unsupported_content_type"),
    "form without a file": ({"files": {"note": (None, "x")}}, 400, "no_file"),
    "form with two files": ({"files": [("a", b"x"), ("b", b"y")]}, 400, "several_images"),
    "form with many files": ({"files": [("a", b"x")] * 40}, 400, "several_images"),
    "form without boundary": (
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "invalid_form",
    ),
    "broken form": (
        {"content": b"--b\r\nx", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        400,
        "no_file",
    ),
    "empty file": ({"files": {"file": b""}}, 400, "empty"),
    "not base64": ({"json": {"image": "***"}}, 422, "invalid_base64"),
    "empty base64": ({"json": {"image": ""}}, 400, "empty"),
    "not JSON": ({"content": b"{", "headers": JSON}, 400, "invalid_json"),
    "deep JSON": ({"content": b"[" * 60, "headers": JSON}, 400, "invalid_json"),
    "deeper JSON": ({"content": b"[" * 100_000, "headers": JSON}, 413, "too_complex"),
    "not UTF-8": ({"content": b'{"image": "\xff"}', "headers": JSON}, 400, "invalid_json"),
    "JSON list": ({"content": b"[]", "headers": JSON}, 422, "invalid_body"),
    "other JSON": ({"json": {"photo": "x"}}, 422, "invalid_body"),
    "number for text": ({"json": {"image": 5}}, 422, "invalid_body"),
    "top_k 0": ({"content": image(), "params": {"top_k": 0}}, 422, "invalid_parameter"),
    "top_k word": ({"content": image(), "params": {"top_k": "all"}}, 422, "invalid_parameter"),
    "top_k 4 of 3": ({"content": image(), "params": {"top_k": 4}}, 422, "invalid_parameter"),
    "unknown model": ({"content": image(), "params": {"model": "shapes"}}, 404, "unknown_model"),
    "unknown version": ({"content": image(), "params": {"version": 9}}, 404, "unknown_model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_and_said_why(server: Server, name: str) -> None:
    request, status, code = REFUSED[name]
    reply = server.client.post("/predict", **request)  # type: ignore[arg-type]
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
    assert len(reply.json()["error"]["message"]) > 20


BATCH_REFUSED = {
    "empty body": ({"content": b""}, 400, "empty"),
    "no images": ({"json": {"images": []}}, 400, "empty"),
    "too many": ({"json": {"images": ["x"] * 9}}, 413, "too_many_images"),
    "too many files": ({"files": [("file", b"x")] * 9}, 413, "too_many_images"),
    "far too many files": ({"files": [("file", b"x")] * 30}, 413, "too_many_images"),
    "one for a list": ({"json": {"images": "x"}}, 422, "invalid_body"),
}


@pytest.mark.parametrize("name", BATCH_REFUSED)
def test_a_bad_batch_is_refused_whole(server: Server, name: str) -> None:
    request, status, code = BATCH_REFUSED[name]
    reply = server.client.post("/predict/batch", **request)  # type: ignore[arg-type]
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text


def test_an_animation_is_refused(server: Server) -> None:
    import io

    from PIL import Image

    out = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (i * 60, 0, 0)) for i in range(3)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    reply = server.client.post("/predict", content=out.getvalue())
    assert reply.status_code == 422
    assert "one frame" in reply.json()["error"]["message"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(server: Server) -> None:
    reply = server.client.post("/predict", content=(b"x" * 10_000 for _ in range(60)))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")


def test_random_bytes_never_break_the_service(server: Server) -> None:
    rng = np.random.default_rng(0)
    kinds = ["image/png", "application/json", "multipart/form-data; boundary=x", "application/octet-stream"]
    for i in range(200):
        data = rng.integers(0, 256, rng.integers(1, 400), dtype=np.uint8).tobytes()
        path = "/predict/batch" if i % 3 == 0 else "/predict"
        reply = server.client.post(path, content=data, headers={"content-type": kinds[i % 4]})
        if path == "/predict":
            assert 400 <= reply.status_code < 500, (data, reply.text)
        else:
            assert reply.status_code < 500, (data, reply.text)
    assert server.client.get("/health/ready").status_code == 200


def test_what_is_documented_is_what_is_sent(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "application/json", "application/octet-stream"} <= set(body)
    schema = document["components"]["schemas"]["Prediction"]
    reply = server.client.post("/predict", content=image()).json()
    assert set(reply) == set(schema["properties"])
