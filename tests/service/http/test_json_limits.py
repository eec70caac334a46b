from __future__ import annotations

import json

import pytest

from service.http.errors import ApiError
from service.http.json_limits import check, of_images


@pytest.mark.parametrize(("count", "side"), [(256, 32), (6, 224), (1, 1024), (1, 1), (1024, 8)])
def test_what_a_legal_request_needs_is_within_the_limits(count: int, side: int) -> None:
    pixels = json.dumps([[[255] * 3] * side] * side)
    limits = of_images(count, side, side)
    for instance in (pixels, f'{{"images": {pixels}}}'):
        check(
            f'{{"signature_name": "serving_default", "instances": [{",".join([instance] * count)}]}}'.encode(), limits
        )
    data = json.dumps([0] * (count * side * side * 3))
    check(f'{{"inputs": [{{"name": "images", "data": {data}, "shape": [1, 1, 1, 3]}}]}}'.encode(), limits)
    text = ",".join(['{"images": {"b64": "AAAA"}}'] * count)
    check(f'{{"instances": [{text}]}}'.encode(), limits)


@pytest.mark.parametrize("text", ["[" * 100, '"a",' * 100, "{" * 100, "0," * 100])
def test_more_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="at most") as caught:
        check(text.encode(), of_images(0))
    assert caught.value.status == 413
