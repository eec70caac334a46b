from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.network.errors import CannotExplain, UnknownChannel
from contract.preprocessing import Pixels
from kernelscope import cli
from service.explanation.dream import Dream, dream
from service.explanation.subject import Subject
from tests.support.server import ROOT


def test_a_dream_excites_the_layer(shipped: Subject, cat: Pixels) -> None:
    form = shipped.served
    layer = form.layers.find("relu3")
    done = []
    found = dream(form, cat[0], Dream(layer, octaves=2, steps=6), 1, lambda now, total: done.append((now, total)))
    before, after = (float((form.maps(layer, image)[0] ** 2).mean()) for image in (cat, found[None]))
    assert found.shape == cat.shape[1:]
    assert after > 1.5 * before
    assert done[-1] == (12, 12)
    assert np.corrcoef(found.ravel(), cat.ravel())[0, 1] > 0.8  # the image is still there


def test_a_channel_alone_is_raised(shipped: Subject, cat: Pixels) -> None:
    form = shipped.served
    layer = form.layers.find("relu3")
    before = form.maps(layer, cat)[0].mean((0, 1))
    after = form.maps(layer, dream(form, cat[0], Dream(layer, channel=5, octaves=1, steps=6), 1)[None])[0].mean((0, 1))
    assert (after - before)[5] == (after - before).max() > 0


def test_images_of_other_sizes_dream(shipped: Subject) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    layer = shipped.served.layers.find("conv2")
    assert dream(shipped.served, image, Dream(layer, steps=1), 1).shape == (50, 70, 3)


def test_what_cannot_dream_is_refused(shipped: Subject, cat: Pixels) -> None:
    form = shipped.served
    with pytest.raises(CannotExplain, match="dense1 has no map of positions"):
        dream(form, cat[0], Dream(form.layers.find("dense1")), 1)
    with pytest.raises(UnknownChannel, match="its channels are 0 to 63"):
        dream(form, cat[0], Dream(form.layers.find("conv3"), channel=64), 1)


def test_the_command_writes_a_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "dream.png"
    words = ["dream", str(ROOT / "examples" / "cat.jpg"), "--version", "3", "--size", "48", "--steps", "2"]
    assert cli.main([*words, "--layer", "conv3", "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    with Image.open(output) as written:
        assert written.size == (48, 48)
    assert cli.main([*words, "--layer", "conv99"]) == 1
    assert "there is no layer 'conv99': choose from mul1" in capsys.readouterr().err
    assert cli.main([*words, "--layer", "conv3", "--steps", "0"]) == 2
