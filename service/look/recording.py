"""What the page asks for about one image, asked and kept in the form in which its `lib/recording.js` looks it up."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from contract import errors
from contract.bundle import Bundle
from service.look.in_process import Application, Reply, application

Query = Mapping[str, str]

_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_PNG: Final = "image/png"
_NONE: Final[Query] = MappingProxyType({})

_CLASSES: Final = 2
"""Classes that can be asked about in the file: the likeliest ones, each alone and against each other."""
_CHANNELS: Final = 8
"""Channels of each layer, the strongest, whose kernel and whose strongest value's arithmetic the file holds."""
_ALL_CLASSES_UP_TO: Final = 20
_LISTED: Final = 10
"""As `look/answers.js` asks for them."""


@dataclass
class Recording:
    """The replies so far, and the application that gives them."""

    app: Application
    image: bytes
    replies: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def get(self, path: str, query: Query = _NONE) -> Reply:
        """Ask, and keep the reply."""
        return await self._keep("GET", path, query, b"", _JSON)

    async def post(self, path: str, query: Query, accept: str = _JSON) -> Reply:
        """Ask about the image, and keep the reply."""
        return await self._keep("POST", path, query, self.image, accept)

    async def _keep(self, method: str, path: str, query: Query, body: bytes, accept: str) -> Reply:
        reply = await self.app.call(method, f"/{path}", query, body, accept)
        key = json.dumps([method, path, sorted(query.items()), accept], separators=(",", ":"), ensure_ascii=False)
        kept = {name: value for name, value in reply.headers.items() if name.startswith(("content-type", "x-kernel"))}
        packed = base64.b64encode(gzip.compress(reply.body, mtime=0)).decode()
        self.replies[key] = {"status": reply.status, "headers": kept, "body": packed}
        return reply


async def record(bundle: Bundle, image: Path, data: bytes, progress: Callable[[str], None]) -> dict[str, Any]:
    """Everything that the page shows of an image.

    Args:
        bundle: the model.
        image: the image's file, for its name.
        data: its content.
        progress: is told what is being asked for.

    Returns:
        The recording, as JSON can hold it.

    Raises:
        ImageError: the image cannot be read.
        BundleError: the model cannot be served.
    """
    async with application(bundle) as app:
        recording = Recording(app, data)
        name, version = bundle.card.name, str(bundle.version or 1)
        asked = {"model": name, "version": version}
        progress("the answer")
        listed = await recording.get("models")
        await recording.get(f"models/{name}", {"version": version})
        labels = json.loads(listed.body)["models"][0]["labels"]
        top = len(labels) if len(labels) <= _ALL_CLASSES_UP_TO else _LISTED
        answer = await recording.post("predict", {**asked, "top_k": str(top)})
        if answer.status != 200:
            raise errors.ImageError(json.loads(answer.body)["error"]["message"])
        classes = [str(row["index"]) for row in json.loads(answer.body)["top"][:_CLASSES]]
        layers = await recording.get(f"models/{name}/layers", {"version": version})
        if layers.status == 200:
            described = json.loads(layers.body)
            await recording.post("activations", {**asked, "layer": "images"}, _PNG)
            progress("the heat maps")
            await _explanations(recording, asked, described, classes)
            stored = described["stored"]
            if stored["neighbours"]:
                await recording.post("neighbours", asked)
            for layer in described["layers"]:
                progress(f"layer {layer['layer']}")
                await _layer(recording, asked, layer, features=layer["layer"] in stored["features"])
    return {
        "image": {"name": image.name, "type": "", "content": base64.b64encode(data).decode()},
        "classes": [int(row) for row in classes],
        "replies": recording.replies,
    }


async def _explanations(recording: Recording, asked: Query, described: dict[str, Any], classes: list[str]) -> None:
    """Every method, of every question that can be asked in the file."""
    questions = [{"class": label} for label in classes]
    questions += [{"class": label, "against": other} for label in classes for other in classes if label != other]
    for question in questions:
        for method in described["methods"]:
            await recording.post("explain", {**asked, "method": method, **question})
        if "contributions" in described["methods"]:
            await recording.post("explain", {**asked, "method": "contributions", "top": "8", **question})


async def _layer(recording: Recording, asked: Query, layer: dict[str, Any], *, features: bool) -> None:
    """A layer's maps; the kernels and the strongest value's arithmetic of its strongest channels."""
    name, version = layer["layer"], asked["version"]
    reply = await recording.post("activations", {**asked, "layer": name}, _BINARY)
    if reply.status != 200:
        return
    rows, columns, channels = map(int, reply.headers["x-kernelscope-shape"].split(","))
    maps = np.abs(np.frombuffer(reply.body, "<f4").reshape(channels, rows * columns))
    for channel in np.argsort(-maps.max(1), kind="stable")[:_CHANNELS].tolist():
        row, column = divmod(int(maps[channel].argmax()), columns)
        await recording.post("activations", {**asked, "layer": name, "unit": f"{row},{column},{channel}"})
        model = f"models/{asked['model']}"
        if layer["has_kernels"]:
            await recording.get(f"{model}/kernels", {"version": version, "layer": name, "channel": str(channel)})
        if features:
            await recording.get(f"{model}/features", {"version": version, "layer": name, "channel": str(channel)})
