"""Bodies that a hostile or broken client might send: valid ones of every endpoint, and what mutation makes of them.

The endpoints, their content types and their examples are those of the OpenAPI document, so that an endpoint that is
added is attacked as well.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
BOUNDARY = "kernelscope-boundary"
_PIXEL = "iVBORw0KGgo"
"""How the base64 of a PNG begins, and so the images in the document's examples."""
TOKENS = (
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"[",
    b"\\ud800",
    b"\xff\xd9",
    b"IDAT",
    b"\r\n\r\n",
    b"-1",
    b"1e999",
    b"\xef\xbb\xbf",
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 1e308, "", "\ud800", "\u2028", "x" * 5000, [], {}, [[]] * 50, {"a": {"b": []}},
)  # fmt: skip
"""What stands in a JSON body in place of what belongs there."""


@dataclass
class Body:
    """One request: where it goes, what it carries, and what it was made to reach.

    Attributes:
        reaches: `decoder`, `model` or `parser`: whose code runs on what the client chose.
    """

    path: str
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    reaches: str = "parser"


def encoded(rng: random.Random, size: tuple[int, int] | None = None) -> bytes:
    """A valid image of random pixels, size and format."""
    width, height = size or (rng.randrange(1, 80), rng.randrange(1, 80))
    pixels = np.frombuffer(rng.randbytes(width * height * 3), np.uint8).reshape(height, width, 3)
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    image.convert(rng.choice(("RGB", "RGB", "L"))).save(out, rng.choice(FORMATS))
    return out.getvalue()


def mutate_bytes(rng: random.Random, data: bytes, *, keep: int = 0) -> bytes:
    """Some bytes flipped, cut, repeated, inserted or set to zero; the first `keep` stay as they are."""
    head, tail = data[:keep], bytearray(data[keep:])
    for _ in range(rng.randrange(1, 5)):
        if not tail:
            tail = bytearray(rng.randbytes(8))
        place = rng.randrange(len(tail))
        kind = rng.randrange(6)
        if kind == 0:
            tail[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del tail[place:]
        elif kind == 2:
            tail[place:place] = rng.choice(TOKENS)
        elif kind == 3:
            tail[place:place] = tail[place : place + rng.randrange(1, 64)] * rng.randrange(1, 8)
        elif kind == 4:
            tail[place : place + 8] = bytes(8)
        else:
            tail[place : place + 4] = rng.randbytes(4)
    return head + bytes(tail)


def mutate_json(rng: random.Random, value: Any) -> Any:
    """A JSON value with one of its parts, at any depth, replaced, removed, repeated or renamed."""
    copy = json.loads(json.dumps(value))
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            walk(node[key])

    walk(copy)
    if not places:
        return rng.choice(ODD_VALUES)
    node, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice(("", "__proto__", "inputs", "ID", "\u202e", "x" * 300))] = node[key]
    elif kind == 2 and isinstance(node, list):
        node.extend([node[key]] * rng.randrange(1, 50))
    else:
        node[key] = rng.choice(ODD_VALUES)
    return copy


class Bodies:
    """Makes bodies for every POST operation of a server.

    Args:
        document: the server's OpenAPI document.
        model, version: that serve there.
        size: height and width of the model's input.
        seed: the same seed makes the same bodies.
    """

    def __init__(
        self, document: dict[str, Any], model: str, version: str, size: tuple[int, int], seed: int = 0
    ) -> None:
        self._rng = random.Random(seed)  # noqa: S311 -- the same seed makes the same bodies
        self._names, self._size = {"name": model, "version": version}, size
        self._operations: list[tuple[str, str, dict[str, Any]]] = []
        for path, found in document["paths"].items():
            operation = found.get("post")
            if operation is None:
                continue
            query = "&".join(
                f"{one['name']}={one['schema'].get('examples', ['1'])[0]}"
                for one in operation.get("parameters", ())
                if one["in"] == "query" and one.get("required")
            )
            address = path.format(**self._names) + (f"?{query}" if query else "")
            content = operation.get("requestBody", {}).get("content", {"application/json": {"schema": {}}})
            for kind, described in content.items():
                self._operations.append((address, kind, described.get("schema", {})))

    @property
    def paths(self) -> set[str]:
        """The paths that are attacked."""
        return {path for path, _, _ in self._operations}

    def make(self) -> Body:
        """One more body."""
        rng = self._rng
        path, kind, schema = rng.choice(self._operations)
        if kind == "application/json":
            return self._json(path, schema)
        if kind == "multipart/form-data":
            return self._form(path)
        reaches = rng.choice(("model", "decoder", "decoder"))
        return self._binary(path, kind, reaches)

    def carrying(self, image: bytes) -> list[Body]:
        """The same image to every operation, in each form that it takes."""
        bodies = []
        for path, kind, schema in self._operations:
            if kind == "application/json":
                content = [json.dumps(_filled(example, lambda: image)).encode() for example in _examples(schema)]
                bodies += [Body(path, one, {"content-type": kind}) for one in content]
            elif kind == "multipart/form-data":
                bodies.append(Body(path, _form([image]), {"content-type": f"{kind}; boundary={BOUNDARY}"}))
            else:
                bodies.append(Body(path, image, self._headers(path, kind)))
        return bodies

    def _headers(self, path: str, kind: str) -> dict[str, str]:
        headers = {"content-type": "image/png" if kind == "image/*" else kind}
        return headers | ({"inference-header-content-length": "0"} if path.endswith("/infer") else {})

    def _binary(self, path: str, kind: str, reaches: str) -> Body:
        image = self._image(reaches)
        if path.endswith("/infer") and reaches == "model":
            image = self._rng.randbytes(self._size[0] * self._size[1] * 3)
        return Body(path, image, self._headers(path, kind), reaches)

    def _form(self, path: str) -> Body:
        rng = self._rng
        reaches = rng.choice(("model", "decoder", "parser"))
        files = [self._image(reaches) for _ in range(rng.randrange(1, 4) if path.endswith("batch") else 1)]
        content = _form(files)
        if reaches == "parser":
            content = mutate_bytes(rng, content)
        return Body(path, content, {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}, reaches)

    def _json(self, path: str, schema: dict[str, Any]) -> Body:
        rng = self._rng
        example = _filled(rng.choice(_examples(schema) or [{}]), lambda: self._image(rng.choice(("model", "decoder"))))
        reaches = rng.choice(("model", "parser", "parser"))
        if reaches == "parser":
            example = mutate_json(rng, example)
        content = json.dumps(example).encode("utf-8", "surrogatepass")
        if reaches == "parser" and not rng.randrange(3):
            content = mutate_bytes(rng, content)
        headers = {"content-type": "application/json"}
        if not rng.randrange(8):
            headers["content-encoding"], content = "gzip", gzip.compress(content)
        return Body(path, content, headers, reaches)

    def _image(self, reaches: str) -> bytes:
        image = encoded(self._rng)
        # the first bytes tell the format: what is behind them reaches the format's own decoder
        return mutate_bytes(self._rng, image, keep=12) if reaches == "decoder" else image


def _filled(example: Any, image: Callable[[], bytes]) -> Any:
    """An example with images of our own in place of its one pixel."""
    if isinstance(example, dict):
        return {key: _filled(value, image) for key, value in example.items()}
    if isinstance(example, list):
        return [_filled(value, image) for value in example]
    if isinstance(example, str) and example.startswith(_PIXEL):
        return base64.b64encode(image()).decode()
    return example


def _form(files: Sequence[bytes]) -> bytes:
    boundary = BOUNDARY.encode()
    part = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n'
    return b"".join(part % (boundary, file) for file in files) + b"--" + boundary + b"--\r\n"


def _examples(schema: dict[str, Any]) -> list[Any]:
    return [example for part in (schema, *schema.get("anyOf", ())) for example in part.get("examples", ())]
