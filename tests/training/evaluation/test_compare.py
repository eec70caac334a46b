from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from contract.errors import UsageError
from tests.support.images import class_folder
from tests.support.models import colour_bundle
from tests.support.server import SHIPPED
from training import cli
from training.data import dataset as datasets
from training.evaluation import compare
from training.evaluation.shared_split import shared_split


def test_mcnemar_by_hand() -> None:
    assert compare.mcnemar(0, 0) == 1
    assert compare.mcnemar(5, 5) == 1
    assert compare.mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert compare.mcnemar(7, 1) == compare.mcnemar(1, 7)
    assert 0 < compare.mcnemar(2000, 2400) < 1e-8  # larger than a float's exponent could hold in between


def test_the_difference_has_an_interval() -> None:
    middle, low, high = compare.difference((10, 30), 1000)
    assert middle == pytest.approx(0.02)
    assert high - middle == pytest.approx(middle - low)
    assert low == pytest.approx(0.02 - 1.959964 * (0.04 - 0.0004) ** 0.5 / 1000**0.5)


def test_a_model_that_is_right_beside_one_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    images = class_folder(tmp_path / "colours", each=12)
    wrong = colour_bundle(tmp_path / "models", "wrong", labels=("green", "blue", "red"))
    right = colour_bundle(tmp_path / "models", "right", height=16, width=16)
    words = [str(wrong.folder), str(right.folder), "--data", str(images)]
    assert cli.compare([*words, "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["images"] == 12
    assert comparison["split"] == "test"
    assert comparison["accuracy"] == [0, 1]
    assert comparison["right_alone"] == [0, 12]
    assert comparison["difference"][0] == 1
    assert comparison["p_value"] == pytest.approx(2 / 2**12)
    assert comparison["bytes"] == [bundle.model.stat().st_size for bundle in (wrong, right)]
    low, high = sorted(comparison["speed_ratio"][1:])
    assert low <= comparison["speed_ratio"][0] <= high
    assert cli.compare(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "+100.00 points of accuracy" in said
    assert "p = 0.00049, significant at 5 %" in said


def test_neither_is_judged_by_what_it_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them was trained on these data, and however the other one split its own."""
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    images = class_folder(tmp_path / "colours", each=20)
    shutil.rmtree(images / "test")
    dataset = datasets.load(str(images), test_fraction=0.2)
    assert dataset.test
    own = colour_bundle(tmp_path / "models", "own", data=dataset.describe())
    for shares in ((0.1, 0.2), (0.3, 0.0)):
        other = colour_bundle(
            tmp_path / "models",
            f"other-{shares[0]}",
            data=dataclasses.replace(dataset.describe(), checksum="", held_out=shares),
        )
        for both in ((own, other), (other, own)):
            name, splits = shared_split(*both, str(images), None)
            assert (name, len(splits[0])) == ("test", len(dataset.test))
            assert (splits[0].targets == splits[1].targets).all()
            assert (splits[0].images == splits[1].images).all()
        assert shared_split(other, other, str(images), None)[0] == "all"
    different = colour_bundle(
        tmp_path / "models", "third", data=dataclasses.replace(dataset.describe(), held_out=(0.3, 0.0))
    )
    with pytest.raises(UsageError, match="held out different images"):
        shared_split(own, different, str(images), None)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path)
    with pytest.raises(UsageError, match="have different classes"):
        cli.compare([str(bundle.folder), str(SHIPPED), "--data", "cifar10"])
