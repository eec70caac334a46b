from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from contract import bundle, preprocessing
from contract.card import FORMAT, Accuracy, Card, Cost, Data, Layer, Training, Unsure
from contract.errors import BundleError
from contract.preprocessing import RESIZE_MODES, ResizeMode
from tests.support.models import colour_bundle

SMALL = Card(name="pets", labels=("cat", "dog"), height=32, width=48)
FULL = replace(
    SMALL,
    resize_mode="squash",
    temperature=0.7,
    unsure_below=0.4,
    created="2026-01-02T03:04:05+00:00",
    data=Data("pets", "sha256:0", 8, 1, 1, (0.1, 0.1), 0),
    training=Training(recipe="fast", seed=0, class_weights={"cat": 2.0, "dog": 1.0}, versions={"python": "3.11"}),
    accuracy=Accuracy(
        split="test",
        images=2,
        accuracy=0.5,
        interval=(0.1, 0.9),
        per_class={"cat": 0.0, "dog": 1.0},
        confusion=((0, 1), (0, 1)),
        unsure=Unsure(0.1, 0.5, {"noise": 1.0}),
    ),
    cost=Cost(
        bytes=7,
        dtype="float32",
        latency_ms=0.5,
        layers=(Layer("dense", "dense", 0, 0, 0.0, (1, 1, 2), 32, 9, 8),),
    ),
)


def changed(card: Card, **change: Any) -> str:
    return json.dumps({**card.to_dict(), **change})


@pytest.mark.parametrize("card", [SMALL, FULL])
def test_a_card_survives_its_file(card: Card) -> None:
    assert Card.from_json(card.to_json(), "card") == card


def test_what_is_not_known_is_left_out() -> None:
    assert set(SMALL.to_dict()) == {
        *("name", "labels", "height", "width", "resize_mode", "temperature", "unsure_below", "format")
    }
    assert FULL.to_dict()["data"]["skipped"] == 0  # which is known
    assert "command" not in FULL.to_dict()["training"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "upgrade"),
        ({"format": True}, "`format` must be"),
        ({"format": 0}, "`format` must be"),
        ({"format": "2"}, "`format` must be"),
        ({"later": 1}, "unknown key `later`"),
        ({"fit": "squash"}, "unknown key `fit`"),
        ({"\ud800": 1}, r"unknown key `\\ud800`"),
        ({"labels": ["only"]}, "two classes"),
        ({"labels": ["a", "a"]}, "twice"),
        ({"labels": ["a", ""]}, "must have a name"),
        ({"labels": ["a", 3]}, r"`labels\[1\]` must be text, not 3"),
        ({"labels": ["a", "\ud800"]}, r"`labels\[1\]` must be text"),
        ({"labels": "ab"}, "`labels` must be a list"),
        ({"name": ""}, "`name` must not be empty"),
        ({"height": 0}, "`height` must be a whole number at least 1 and at most 4096"),
        ({"width": 10**12}, "at most 4096"),
        ({"height": True}, "`height`"),
        ({"resize_mode": "stretch"}, "crop, squash, letterbox"),
        ({"temperature": 0}, "`temperature` must be a number above 0 and at most 1000"),
        ({"temperature": 10**400}, "`temperature`"),
        ({"temperature": "hot"}, "`temperature`"),
        ({"unsure_below": 1.5}, "`unsure_below`"),
        ({"unsure_below": None}, "`unsure_below`"),
        ({"data": {"validation": "many"}}, r"`data\.validation`"),
        ({"data": {"train": -1}}, r"`data\.train` must be a whole number at least 0"),
        ({"data": {"held_out": [0.1]}}, r"`data\.held_out` must have 2 items"),
        ({"data": {"held_out": [0.1, 1]}}, r"`data\.held_out\[1\]` must be a number at least 0 and below 1"),
        ({"training": {"recipe": 7}}, r"`training\.recipe` must be text, not 7"),
        ({"training": {"recipe": "\ud800"}}, r"`training\.recipe` must be text without half"),
        ({"training": {"versions": {"keras": 3}}}, r"`training\.versions\.keras` must be text, not 3"),
        ({"training": None}, "`training` must be an object, not null"),
        ({"accuracy": {"accuracy": "high"}}, r"`accuracy\.accuracy`"),
        ({"accuracy": {"unsure": {"right": 0.1}}}, r"`accuracy\.unsure\.wrong` is missing"),
        ({"cost": {"layers": [{"name": "a"}]}}, r"`cost\.layers\[0\]\.kind` is missing"),
        ({"cost": {"latency_ms": float("nan")}}, "NaN is not a JSON number"),
    ],
)
def test_a_wrong_card_is_refused_with_the_path_of_the_key(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BundleError, match=says) as error:
        Card.from_json(changed(SMALL, **change), "card.json")
    assert str(error.value).startswith("card.json")
    str(error.value).encode()


def test_unknown_facts_are_ignored() -> None:
    text = changed(SMALL, training={"recipe": "fast", "later": [1]}, accuracy={"later": {}})
    assert Card.from_json(text, "card") == replace(SMALL, training=Training(recipe="fast"))


@pytest.mark.parametrize(("text", "says"), [("{", "not JSON"), ("[]", "list"), ("{}", "`name` is missing")])
def test_what_is_no_card_is_refused(text: str, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        Card.from_json(text, "card.json")


def as_format_1(card: dict[str, Any]) -> dict[str, Any]:
    """The card as readers of format 1 knew it."""
    parts = {
        "accuracy": {"pictures": 10, "accuracy": 0.5, "per_class": {"fit": 0.5, "pictures": 0.5}},
        "cost": {"pictures_per_second": 20},
        "training": {"recipe": "fast"},
        "data": {},
    }
    kept = {key: value for key, value in card.items() if key != "resize_mode"}
    return {**kept, "fit": card["resize_mode"], **parts, "format": 1}


def test_format_1_is_read_in_the_names_of_format_2() -> None:
    old = as_format_1(FULL.to_dict())
    card = Card.from_json(json.dumps(old), "card.json")
    assert card.resize_mode == "squash"
    assert card.accuracy == Accuracy(images=10, accuracy=0.5, per_class={"fit": 0.5, "pictures": 0.5})
    assert card.cost == Cost(images_per_second=20)
    assert json.loads(card.to_json())["format"] == FORMAT
    # its readers ignored unknown keys, and no newer writer can give it new ones
    assert Card.from_json(json.dumps({**old, "note": "mine"}), "card.json") == card
    with pytest.raises(BundleError, match="`resize_mode` is a key of format 2"):
        Card.from_json(json.dumps({**old, "resize_mode": "crop"}), "card.json")
    with pytest.raises(BundleError, match="`resize_mode` must be one of"):
        Card.from_json(json.dumps({**old, "fit": "stretch"}), "card.json")


def test_a_card_that_format_1_wrote_is_read() -> None:
    """The card of the int8 model that shipped first."""
    path = Path(__file__).parent.parent / "support" / "cards" / "format-1.json"
    card = Card.from_json(path.read_text(encoding="utf-8"), str(path))
    assert (card.resize_mode, card.temperature, card.unsure_below) == ("crop", 0.5246, 0.7876)
    assert (card.accuracy.images, card.cost.images_per_second) == (10_000, 3320)
    assert card.accuracy.unsure is not None
    assert card.accuracy.unsure.unknown["noise"] == 0.5067
    assert card.data.held_out is None
    assert card.training.epochs == 20


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_a_bundle_of_format_1_answers_as_the_same_one_of_format_2(tmp_path: Path, mode: ResizeMode) -> None:
    """The same pixels and the same probabilities, of an image that each mode resizes differently."""
    new = colour_bundle(tmp_path, version=2, resize_mode=mode)
    old = colour_bundle(tmp_path, version=1)
    (old.folder / bundle.CARD).write_text(json.dumps(as_format_1(new.card.to_dict())))
    old = bundle.read(old.folder)
    rng = np.random.default_rng(0)
    halves = np.concatenate([np.full((20, 30, 3), (250, 5, 5)), np.full((20, 30, 3), (5, 5, 250))], axis=1)
    shown = encoded(np.clip(halves + rng.integers(-5, 5, halves.shape), 0, 255).astype(np.uint8))
    first, second = (seen(version, shown) for version in (old, new))
    assert np.array_equal(first, second)
    others = [seen(replace(new, card=replace(new.card, resize_mode=m)), shown) for m in RESIZE_MODES if m != mode]
    assert not any(np.array_equal(first, other) for other in others)
    assert np.array_equal(answers(old, first), answers(new, second))


def encoded(pixels: preprocessing.Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def seen(version: bundle.Bundle, data: bytes) -> preprocessing.Pixels:
    return preprocessing.read(data, version.card.height, version.card.width, version.card.resize_mode)


def answers(version: bundle.Bundle, pixels: preprocessing.Pixels) -> Any:
    return onnxruntime.InferenceSession(version.model).run([bundle.PROBABILITIES], {bundle.INPUT: pixels[None]})[0]
