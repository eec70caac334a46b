"""The replies of /predict and /predict/batch are written from a template: it is the JSON that a library reads."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

from contract.card import Card
from service.routes.predict import prediction

LABELS = ("a", '"', "é\u2028", "\ud800", "\n")


@dataclass
class Loaded:
    """What a reply needs of a model."""

    card: Card
    name: str = 'x"y'
    version: int = 7


@pytest.mark.parametrize("values", [[0.5, 0.2, 0.1, 0.1, 0.1], [0, 0, 0, 1, 0], [1e-7, 1e-300, 0.3, 0.123456789, 0.5]])
@pytest.mark.parametrize("count", [1, 5])
def test_the_template_is_json(values: list[float], count: int) -> None:
    loaded = Loaded(Card(name="x", labels=LABELS, height=2, width=2))
    made = json.loads(prediction(loaded, np.array(values, np.float32), count))  # type: ignore[arg-type]
    order = sorted(range(5), key=lambda index: -np.float32(values[index]))[:count]
    assert [entry["index"] for entry in made["top"]] == order
    assert [entry["probability"] for entry in made["top"]] == [round(float(np.float32(values[i])), 6) for i in order]
    names = [label.encode(errors="backslashreplace").decode() for label in LABELS]
    assert [entry["label"] for entry in made["top"]] == [names[index] for index in order]
    assert list(made) == ["model", "version", "label", "index", "probability", "unsure", "top"]
    assert {key: made[key] for key in ("label", "index", "probability")} == made["top"][0]
    assert (made["model"], made["version"]) == ('x"y', 7)


def test_what_is_no_number_is_null() -> None:
    loaded = Loaded(Card(name="x", labels=("a", "b"), height=2, width=2))
    made = json.loads(prediction(loaded, np.array([math.nan, 1], np.float32), 2))  # type: ignore[arg-type]
    assert None in [entry["probability"] for entry in made["top"]]
