"""The report's most confident mistakes: kept as images, and told how to look into."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from contract.bundle import Bundle
from contract.card import Card, Cost
from training.evaluation.evaluate import Evaluation
from training.export import report

LABELS = ("cat", "<dog>")


def evaluation(targets: list[int], cat: list[float]) -> Evaluation:
    """What an evaluation of such targets is, where `cat` are the first class's probabilities."""
    probabilities = np.stack([np.array(cat), 1 - np.array(cat)], 1)
    truth = np.array(targets)
    matrix = np.zeros((2, 2), np.int64)
    np.add.at(matrix, (truth, probabilities.argmax(1)), 1)
    return Evaluation(
        split="test",
        images=len(targets),
        accuracy=0.5,
        balanced_accuracy=0.5,
        macro_f1=0.5,
        interval=(0.4, 0.6),
        cross_entropy=1.0,
        calibration_error=0.1,
        uncalibrated_error=0.2,
        per_class=dict.fromkeys(LABELS, 0.5),
        confusion=matrix,
        targets=truth,
        logits=np.log(probabilities).astype(np.float32),
        probabilities=probabilities,
    )


def written(folder: Path, score: Evaluation) -> str:
    """The page of a report on images of which each is grey as its index is high."""
    images = np.stack([np.full((8, 8, 3), index, np.uint8) for index in range(score.images)])
    cost = Cost(latency_ms=1.0, bytes=1000, dtype="float32")
    card = Card(name="pets", labels=LABELS, height=8, width=8, accuracy=score.describe(), cost=cost)
    report.write(Bundle(folder, card), score, images, [])
    return (folder / "report" / "report.html").read_text(encoding="utf-8")


def test_the_most_confident_mistakes_are_kept_and_told_how_to_look_into(tmp_path: Path) -> None:
    page = written(tmp_path, evaluation([0, 1, 1, 0], [0.9, 0.6, 0.8, 0.3]))
    kept = sorted((tmp_path / "report" / "mistakes").iterdir())
    assert [path.name for path in kept] == ["1.png", "2.png", "3.png"]
    shown = []
    for path in kept:
        with Image.open(path) as image:
            shown.append(image.getpixel((0, 0)))
    assert shown == [(2, 2, 2), (3, 3, 3), (1, 1, 1)]
    assert "kernelscope look mistakes/1.png --models ../../.. --model pets" in page
    assert re.findall(r'href="(mistakes/\d\.png)"', page) == [f"mistakes/{place}.png" for place in (1, 2, 3)]
    assert 'alt="&lt;dog&gt;, predicted as cat"' in page


def test_where_all_is_right_there_is_nothing_to_look_into(tmp_path: Path) -> None:
    page = written(tmp_path, evaluation([0, 1], [0.9, 0.1]))
    assert not (tmp_path / "report" / "mistakes").exists()
    assert "kernelscope look" not in page
