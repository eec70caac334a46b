"""Encoded images to a model's input in a process without an event loop of its own: hostile ones in forks, with limits.

The ways are those of `service.inference.decoder`: what its bytes prove to be cheap is decoded here, all else by a
`DecodePool`, several at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from contract import memory, preprocessing
from contract.card import Card
from contract.errors import ImageError, ImageTooLarge, UndecodableImage
from contract.preprocessing import Pixels
from service.inference import cheap, jpeg
from service.inference.decode_pool import SMALL_MEMORY, DecodePool, DecoderLost, OutOfTime
from service.inference.decode_server import Job

_AT_ONCE: Final = 2
"""Images in forks of one worker: while one starts, the other computes."""
_ISOLATED: Final = sys.platform == "linux"
"""Whether there are processes to decode in."""
_SECONDS: Final = 60.0
_TRIES: Final = 3
"""Of an image whose process was ended from outside."""
_LEAST_MEMORY: Final = 304 * 2**20
"""What the service, too, reckons at least with: 12 megapixels fit in any format."""


class Decoding:
    """Decodes for one model.

    Args:
        card: the model's.
        max_pixels: width times height of an image.
        max_seconds: of a processor's time that one image may take.
        share: of how many such processes this is one; they share the memory.
        careful: whether every image is decoded in a fork: after a process has died of one.
    """

    def __init__(
        self, card: Card, *, max_pixels: int, max_seconds: float, share: int = 1, careful: bool = False
    ) -> None:
        self._size, self._mode = (card.height, card.width), card.resize_mode
        self._max_pixels, self._max_seconds, self._careful = max_pixels, max_seconds, careful
        self._memory = max(_LEAST_MEMORY, memory.available() // (2 * share))
        self._runner = asyncio.Runner()
        self._pool = DecodePool()

    def decode(self, images: Sequence[bytes | Exception]) -> list[Pixels | Exception]:
        """Each image, uint8 (height, width, 3), or why it cannot be read; what is a reason already stays one."""
        decoded = [image if isinstance(image, Exception) else self._here(image) for image in images]
        rest = [place for place, pixels in enumerate(decoded) if pixels is None]
        if rest:
            encoded = [image for image in (images[place] for place in rest) if isinstance(image, bytes)]
            found_there = self._runner.run(self._elsewhere(encoded))
            for place, pixels in zip(rest, found_there, strict=True):
                decoded[place] = pixels
        return [pixels for pixels in decoded if pixels is not None]

    def close(self) -> None:
        """End the processes that decode."""
        self._pool.close()
        self._runner.close()

    def _here(self, data: bytes) -> Pixels | Exception | None:
        """An image that is proven to be cheap; None for any other."""
        if self._careful and _ISOLATED:
            return None
        pixels = jpeg.plain(data, *self._size)
        if pixels is not None:
            return pixels
        try:
            if _ISOLATED and data and not cheap.is_cheap(data, *self._size):
                return None
            return preprocessing.read(data, *self._size, self._mode, max_pixels=self._max_pixels)
        except ImageError as error:
            return error

    async def _elsewhere(self, images: Sequence[bytes]) -> list[Pixels | Exception]:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(data: bytes) -> Pixels | Exception:
            async with places:
                try:
                    return await self._isolated(data)
                except ImageError as error:
                    return error
                except OutOfTime:
                    return ImageTooLarge(f"decoding the image takes more than {_SECONDS:g} s: send a smaller one")

        return list(await asyncio.gather(*map(one, images)))

    async def _isolated(self, data: bytes) -> Pixels:
        limit = SMALL_MEMORY
        for _ in range(_TRIES):
            job = Job(data, *self._size, self._mode, self._max_pixels, limit, _SECONDS, self._max_seconds)
            try:
                result = await self._pool.decode(job)
            except DecoderLost:  # the kernel ends it first where memory runs out
                continue
            if not isinstance(result, int):
                return result
            if result > self._memory:
                raise ImageTooLarge(
                    f"decoding the image takes {result / 1e6:,.0f} MB, of {self._memory / 1e6:,.0f} there are"
                )
            limit = result
        raise UndecodableImage("the process that decodes the image is killed again and again")
