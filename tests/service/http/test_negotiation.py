from __future__ import annotations

import pytest

from service.http.negotiation import preferred

OFFERED = ["application/json", "image/png"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/avif,image/webp,image/*,*/*;q=0.8", "image/png"),  # what a browser sends for a picture
        ("application/json, image/png;q=0.9", "application/json"),
        ("application/json;q=0.1, image/png;q=0.9", "image/png"),
        ("*/*, application/json;q=0.5", "image/png"),  # the more specific range counts
        ("image/png;q=0, */*", "application/json"),
        ("image/png;q=x", "application/json"),
        ("text/html", "application/json"),
        (";;,,", "application/json"),
    ],
)
def test_the_type_that_is_preferred(accept: str, expected: str) -> None:
    assert preferred(accept, OFFERED) == expected
