from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract import bundle
from contract.errors import BundleError, BundleNotFound
from tests.support.models import COLOURS, colour_bundle


def test_a_card_survives_its_file() -> None:
    card = bundle.Card(name="pets", labels=("cat", "dog"), height=32, width=48, resize_mode="squash", temperature=0.7)
    assert bundle.Card.from_json(card.to_json(), "card") == card


def test_reading_a_bundle(tmp_path: Path) -> None:
    found = bundle.read(colour_bundle(tmp_path, version=3).folder)
    assert found.version == 3
    assert found.card.labels == COLOURS
    assert found.model.is_file()


def test_unknown_keys_of_a_card_are_left_out() -> None:
    text = bundle.Card(name="x", labels=("a", "b"), height=8, width=8).to_json()
    assert bundle.Card.from_json(json.dumps({**json.loads(text), "later": 1}), "card").name == "x"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "upgrade"),
        ({"labels": ["only"]}, "two classes"),
        ({"labels": ["a", "a"]}, "twice"),
        ({"labels": ["a", 3]}, "word"),
        ({"height": 0}, "height"),
        ({"width": 10**12}, "4096 at most"),
        ({"temperature": 10**400}, "1000 at most"),
        ({"data": {"validation": "many"}}, r"data\.validation"),
        ({"data": {"held_out": [0.1]}}, "two shares"),
        ({"data": {"held_out": [0.1, 2]}}, "two shares"),
        ({"resize_mode": "stretch"}, "crop, squash, letterbox"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"unsure_below": 1.5}, "unsure_below"),
        ({"unsure_below": None}, "unsure_below"),
        ({"name": ""}, "name"),
    ],
)
def test_a_wrong_card_is_refused(change: dict[str, object], says: str) -> None:
    card = json.loads(bundle.Card(name="x", labels=("a", "b"), height=8, width=8).to_json())
    with pytest.raises(BundleError, match=says):
        bundle.Card.from_json(json.dumps({**card, **change}), "card.json")


@pytest.mark.parametrize(("text", "says"), [("{", "not JSON"), ("[]", "list"), ("{}", "lacks")])
def test_what_is_no_card_is_refused(text: str, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        bundle.Card.from_json(text, "card.json")


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="not a folder"):
        bundle.read(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"no model\.onnx"):
        bundle.read(tmp_path)
