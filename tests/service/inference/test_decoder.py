from __future__ import annotations

import asyncio
import io
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contract import preprocessing
from contract.card import Card
from service.inference import jpeg
from service.inference.decoder import AT_ONCE_BYTES
from tests.support.decoding import Caller, Target, decoder
from tests.support.images import image

TARGET = Target(Card(name="x", labels=("a", "b"), height=8, width=8))


@pytest.mark.parametrize(("size", "at_once"), [((8, 8), True), ((64, 64), True), ((5000, 3000), False)])
def test_what_is_large_once_decoded_is_not_decoded_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], at_once: bool
) -> None:
    """A few bytes can claim to be many pixels."""
    out = io.BytesIO()
    Image.new("RGB", size, (250, 5, 5)).save(out, "WEBP", lossless=True)
    assert len(out.getvalue()) < AT_ONCE_BYTES
    seen: list[threading.Thread] = []
    pixels_of = preprocessing.pixels_of

    def watched(made: Image.Image, **options: tuple[int, int]) -> Image.Image:
        seen.append(threading.current_thread())
        return pixels_of(made, **options)

    monkeypatch.setattr(preprocessing, "pixels_of", watched)
    with decoder(budget=2**30) as made:
        assert asyncio.run(made.one(out.getvalue(), TARGET, Caller())).shape == (1, 8, 8, 3)
    assert seen == ([threading.main_thread()] if at_once else [])


def test_several_keep_their_order_and_errors_their_place() -> None:
    sent = [image("red"), b"text", image("blue", (300, 200)), image("green"), image("blue", (300, 200), "TIFF")]
    with decoder(threads=2) as made:
        found = asyncio.run(made.several(sent, TARGET, Caller()))
    colours = [None if isinstance(one, Exception) else int(one[0, 0].argmax()) for one in found]
    assert colours == [0, None, 2, 1, 2]


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 64),
    width=st.integers(1, 64),
    quality=st.integers(1, 100),
    subsampling=st.integers(0, 2),
    progressive=st.booleans(),
    mode=st.sampled_from(["RGB", "L"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_short_way_is_bit_for_bit_pillows(
    height: int, width: int, quality: int, subsampling: int, progressive: bool, mode: str, seed: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    out = io.BytesIO()
    made = Image.fromarray(noise).convert(mode)
    made.save(out, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    found = jpeg.plain(out.getvalue(), height, width)
    assert found is not None
    assert (found == preprocessing.read(out.getvalue(), height, width)).all()


def _jpeg(size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "JPEG", **options)
    return out.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return _jpeg((8, 8), exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        image("red"),  # PNG
        _jpeg((9, 8)),
        _jpeg((8, 8), "CMYK"),
        _turned(),
        _jpeg((8, 8))[:-20],
        _jpeg((8, 8))[:100],
        b"\xff\xd8\xff" + bytes(100),
    ],
    ids=["nothing", "another format", "another size", "CMYK", "turned", "cut short", "a head alone", "noise"],
)
def test_what_is_not_plain_is_left_to_pillow(data: bytes) -> None:
    assert jpeg.plain(data, 8, 8) is None


@settings(max_examples=300, deadline=None)
@given(place=st.integers(2, 2000), value=st.integers(0, 255), seed=st.integers(0, 20))
def test_a_damaged_one_is_never_seen_otherwise_than_by_pillow(place: int, value: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=60)
    data = bytearray(out.getvalue())
    data[place % len(data)] = value
    found = jpeg.plain(bytes(data), 32, 32)
    if found is not None:
        assert (found == preprocessing.read(bytes(data), 32, 32)).all()
