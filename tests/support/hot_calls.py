"""Good and bad requests of every call that the fast path knows, for the model `colours`."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from dataclasses import dataclass
from typing import Any

from tests.support.bombs import photograph
from tests.support.images import image, pixels, png_of_size


@dataclass(frozen=True)
class Call:
    """A POST.

    Attributes:
        name: of the test.
        path: with a query, perhaps.
        body: what is sent.
        status: of its reply.
        headers: lines beside the framing.
        is_fast: whether the fast path answers it.
    """

    name: str
    path: str
    body: bytes
    status: int
    headers: tuple[str, ...] = ()
    is_fast: bool = True


RED = image("red")
LARGE = image("green", (200, 200))
TEXT = base64.b64encode(RED).decode()
JSON = ("Content-Type: application/json",)
FORM = ("Content-Type: multipart/form-data; boundary=x",)
V1 = "/v1/models/colours:predict"
V2 = "/v2/models/colours/infer"


def part(data: bytes, name: str = 'name="file"; filename="a"', more: str = "") -> bytes:
    """A part of a form, with the boundary before it."""
    return f"--x\r\nContent-Disposition: form-data; {name}\r\n{more}\r\n".encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + b"--x--\r\n"


def as_json(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


def infer(data: bytes | None = None, *, shape: tuple[int, ...] = (1, 8, 8, 3), **more: Any) -> tuple[bytes, str]:
    """A V2 request with a binary tensor, and the header that says where it begins."""
    data = pixels("red").tobytes() if data is None else data
    tensor = {
        "name": "images", "shape": shape, "datatype": "UINT8", "parameters": {"binary_data_size": len(data)},
        **more.pop("tensor", {}),
    }  # fmt: skip
    text = as_json({"inputs": [tensor], **more})
    return text + data, f"Inference-Header-Content-Length: {len(text)}"


def v2(name: str, status: int, path: str = V2, *, is_fast: bool = True, **options: Any) -> Call:
    """A V2 call with a binary tensor."""
    body, header = infer(**options)
    return Call(f"v2 {name}", path, body, status, (header,), is_fast)


def prefixed(*images: bytes) -> dict[str, Any]:
    """Encoded images as binary data, each after its length."""
    data = b"".join(struct.pack("<I", len(one)) + one for one in images)
    return {"data": data, "shape": (len(images),), "tensor": {"datatype": "BYTES"}}


NUMBERS = as_json(
    {"inputs": [{"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": pixels("red").tolist()}]}
)
TWO_CLASSES: dict[str, Any] = {
    "outputs": [{"name": "probabilities", "parameters": {"binary_data": True, "classification": 2}}]
}
CALLS = [
    # --- raw, form and JSON
    Call("raw", "/predict", RED, 200),
    Call("raw with a type", "/predict", image("blue", kind="JPEG"), 200, ("Content-Type: image/jpeg",)),
    Call("raw larger than the model", "/predict", image("green", (40, 30)), 200),
    Call("raw that is decoded elsewhere", "/predict", LARGE, 200),
    Call("photograph", "/predict", photograph(), 200),
    Call("photograph in a form", "/predict", form(part(photograph())), 200, FORM),
    Call("cut photograph", "/predict", photograph()[:40_000], 422),
    Call("photograph with too many pixels", "/predict", png_of_size(9000, 9000), 413),
    Call("photograph of many bytes", "/predict", photograph() + bytes(100_000), 200, is_fast=False),
    Call("form", "/predict", form(part(RED)), 200, FORM),
    Call("form with a type", "/predict", form(part(RED, more="Content-Type: image/png\r\n")), 200, FORM),
    Call("form with a field", "/predict", form(part(b"x", 'name="y"'), part(RED)), 200, FORM),
    Call(
        "form with a quoted boundary",
        "/predict",
        form(part(RED)),
        200,
        ('Content-Type: multipart/form-data; boundary="x"',),
    ),
    Call("JSON", "/predict", as_json({"image": TEXT}), 200, JSON),
    Call("JSON data URL", "/predict", as_json({"image": f"data:image/png;base64,{TEXT}"}), 200, JSON),
    Call("JSON with line breaks", "/predict", as_json({"image": base64.encodebytes(RED).decode()}), 200, JSON),
    Call("query", "/predict?top_k=1", RED, 200, is_fast=False),
    Call("gzip", "/predict", gzip.compress(RED), 200, ("Content-Encoding: gzip",), is_fast=False),
    Call("empty", "/predict", b"", 400),
    Call("empty form", "/predict", b"", 400, FORM),
    Call("text", "/predict", b"text", 415),
    Call("text as JPEG", "/predict", b"\xff\xd8\xfftext", 422),
    Call("cut image", "/predict", RED[:40], 422),
    Call("type", "/predict", RED, 415, ("Content-Type: text/plain",)),
    Call("no JSON", "/predict", b"{", 400, JSON),
    Call("other JSON", "/predict", b"{}", 422, JSON),
    Call("no base64", "/predict", as_json({"image": "?"}), 422, JSON),
    Call("complex JSON", "/predict", b"[" * 300, 413, JSON),
    Call("no form", "/predict", b"--x", 400, FORM),
    Call("no boundary", "/predict", form(part(RED)), 400, ("Content-Type: multipart/form-data",)),
    Call("other boundary", "/predict", form(part(RED)), 400, ("Content-Type: multipart/form-data; boundary=y",)),
    Call("cut form", "/predict", part(RED), 400, FORM),
    Call("form without a name", "/predict", form(part(RED, 'filename="a"')), 400, FORM),
    Call("form without a file", "/predict", form(part(RED, 'name="file"')), 400, FORM),
    Call("form with two files", "/predict", form(part(RED), part(RED)), 400, FORM),
    Call("form with an empty file", "/predict", form(part(b"")), 400, FORM),
    Call("long", "/predict", bytes(40_000), 415),
    Call("escaped path", "/%70redict", RED, 200, is_fast=False),
    Call("no path", "/predictt", RED, 404, is_fast=False),
    # --- TensorFlow Serving
    Call("v1 base64", V1, as_json({"instances": [{"b64": TEXT}]}), 200),
    Call("v1 named", V1, as_json({"inputs": {"images": {"b64": TEXT}}}), 200),
    Call("v1 version", "/v1/models/colours/versions/1:predict", as_json({"instances": [{"b64": TEXT}]}), 200),
    Call("v1 pixels", V1, as_json({"instances": pixels("red").tolist()}), 200),
    Call("v1 two images", V1, as_json({"instances": [{"b64": TEXT}] * 2}), 200, is_fast=False),
    Call("v1 no model", "/v1/models/shapes:predict", as_json({"instances": [{"b64": TEXT}]}), 404),
    Call("v1 no version", "/v1/models/colours/versions/7:predict", as_json({"instances": [{"b64": TEXT}]}), 404),
    Call("v1 no number", "/v1/models/colours/versions/x:predict", b"{}", 404, is_fast=False),
    Call("v1 empty", V1, b"", 400),
    Call("v1 no list", V1, as_json({"instances": 7}), 400),
    Call("v1 both", V1, as_json({"instances": [], "inputs": []}), 400),
    Call("v1 signature", V1, as_json({"signature_name": "x", "instances": [{"b64": TEXT}]}), 400),
    Call("v1 no image", V1, as_json({"instances": [{"b64": base64.b64encode(b"text").decode()}]}), 415),
    Call("v1 no base64", V1, as_json({"instances": [{"b64": "?"}]}), 400),
    Call("v1 surrogate", V1, b'{"instances": [{"b64": "\\ud800"}]}', 400),
    Call("v1 too many", V1, as_json({"instances": [{"b64": TEXT}] * 9}), 400),
    # --- Open Inference Protocol
    v2("binary", 200),
    v2("version", 200, "/v2/models/colours/versions/1/infer"),
    v2("several", 200, data=pixels("red", "blue").tobytes(), shape=(2, 8, 8, 3)),
    v2("with an id", 200, id="é seven"),
    v2("with an id that is no text", 400, id="\u2028"),
    v2("binary answer", 200, parameters={"binary_data_output": True}),
    v2("classes", 200, **TWO_CLASSES),
    v2("enough time", 200, parameters={"timeout": 29_000_000}),
    v2("no time", 503, parameters={"timeout": 1}),
    v2("encoded", 200, **prefixed(RED)),
    v2("encoded and decoded elsewhere", 200, **prefixed(LARGE)),
    v2("encoded with too many pixels", 413, **prefixed(png_of_size(9000, 9000))),
    v2("two encoded", 200, **prefixed(RED, RED), is_fast=False),
    Call("v2 raw pixels", V2, pixels("red").tobytes(), 200, ("Inference-Header-Content-Length: 0",)),
    Call("v2 raw image", V2, RED, 200, ("Inference-Header-Content-Length: 0",)),
    Call("v2 JSON", V2, NUMBERS, 200),
    v2("no model", 404, "/v2/models/shapes/infer"),
    v2("no version", 404, "/v2/models/colours/versions/7/infer"),
    v2("shape", 400, shape=(1, 8, 8, 1)),
    v2("too few bytes", 400, data=b"x"),
    v2("datatype", 400, tensor={"datatype": "FP32"}),
    v2("name", 400, tensor={"name": "x"}),
    v2("size", 400, tensor={"parameters": {"binary_data_size": "x"}}),
    v2("timeout", 400, parameters={"timeout": -1}),
    v2("output", 400, outputs=[{"name": "x"}]),
    v2("number as id", 400, id=7),
    v2("a tensor of many bytes", 400, data=bytes(150_528), shape=(1, 224, 224, 3)),
    v2("many bytes of text", 200, id="x" * 40_000, is_fast=False),
    v2("too many", 400, data=pixels(*["red"] * 9).tobytes(), shape=(9, 8, 8, 3)),
    v2("damaged image", 415, **prefixed(b"text")),
    Call("v2 header", V2, RED, 400, ("Inference-Header-Content-Length: 99999",)),
    Call("v2 empty", V2, b"", 400),
    Call("v2 no JSON", V2, b"{", 400),
    Call("v2 list", V2, b"[]", 400),
]
