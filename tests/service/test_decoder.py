from __future__ import annotations

import asyncio
import io
import threading

import pytest
from PIL import Image

from contract import images
from contract.bundle import Card
from service.decoder import AT_ONCE_BYTES, Decoder
from service.metrics import Metrics
from tests.tiny import picture

CARD = Card(name="x", labels=("a", "b"), height=8, width=8)


@pytest.mark.parametrize(("size", "at_once"), [((8, 8), True), ((64, 64), True), ((5000, 3000), False)])
def test_what_is_large_once_decoded_is_not_decoded_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], at_once: bool
) -> None:
    """A few bytes can claim to be many pixels."""
    out = io.BytesIO()
    Image.new("RGB", size, (250, 5, 5)).save(out, "WEBP", lossless=True)
    assert len(out.getvalue()) < AT_ONCE_BYTES
    seen: list[threading.Thread] = []
    pixels_of = images.pixels_of

    def watched(made: Image.Image, **options: tuple[int, int]) -> Image.Image:
        seen.append(threading.current_thread())
        return pixels_of(made, **options)

    monkeypatch.setattr(images, "pixels_of", watched)
    decoder = Decoder(Metrics(), threads=1, max_pixels=images.MAX_PIXELS)
    assert asyncio.run(decoder.one(out.getvalue(), CARD)).shape == (1, 8, 8, 3)
    assert (seen == [threading.main_thread()]) == at_once
    decoder.close()


def test_several_keep_their_order_and_errors_their_place() -> None:
    decoder = Decoder(Metrics(), threads=2, max_pixels=images.MAX_PIXELS)
    found = asyncio.run(decoder.several([picture("red"), b"text", picture("blue")], CARD))
    assert [isinstance(one, Exception) for one in found] == [False, True, False]
    decoder.close()
