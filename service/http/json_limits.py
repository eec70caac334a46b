"""A bound on the work that a JSON body can cause, before it is parsed.

Parsing holds the interpreter's lock from its first byte to its last, so that no other thread runs: 13 MB of short keys
stopped a process for seconds. What a legal request holds is known: so many strings an image, so many numbers a pixel.
Counting the bytes that begin or part them takes a millisecond a megabyte, and is right wherever they stand: base64 has
none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from service.http.errors import ApiError

_FEW: Final = 64
"""Strings, lists and objects that belong to no image: names, shapes, parameters."""
_STRINGS_AN_IMAGE: Final = 4
"""`{"images": {"b64": "..."}}` has three."""
_CHANNELS: Final = 3
_MOST_VALUES: Final = 2**20
"""Numbers of pixels that may come as JSON: parsing so many takes less than a tenth of a second. One image always may,
and more than so many go as binary tensors."""


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """What a JSON text may hold.

    Attributes:
        strings: keys and values that are strings.
        values: members of lists and objects, these themselves included.
    """

    strings: int
    values: int


def of_images(count: int, height: int = 0, width: int = 0) -> JsonLimits:
    """What a request with so many images may hold.

    Args:
        count: images.
        height, width: theirs, where they may come as numbers; else 0.

    Example:
        >>> of_images(1)
        JsonLimits(strings=68, values=72)
    """
    an_image = height * width * _CHANNELS
    numbers = max(an_image, min(count * an_image, _MOST_VALUES))
    brackets = numbers // _CHANNELS + height * count  # a list for each pixel, and one for each row
    others = _FEW + 2 * _STRINGS_AN_IMAGE * count
    return JsonLimits(_FEW + _STRINGS_AN_IMAGE * count, numbers + brackets + others)


def check(text: bytes, limits: JsonLimits) -> None:
    """Raise a `ApiError`, 413, for a JSON text that holds more than a legal request can."""
    strings = text.count(b'"') // 2
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    if strings > limits.strings or values > limits.values:
        count, what, most = (
            (strings, "strings", limits.strings) if strings > limits.strings else (values, "values", limits.values)
        )
        raise ApiError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_complex",
            f"the JSON has {count:,} {what}; a request here has {most:,} at most: send fewer images, or binary ones",
        )
