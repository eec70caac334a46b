from __future__ import annotations

import json
import math

import pytest

from service.http.json_reply import JsonReply


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ({"a": "é\u2028"}, {"a": "é\u2028"}),
        ({"a": ["\ud800"]}, {"a": ["\\ud800"]}),
        ({"\udcff": 1}, {"\\udcff": 1}),
        ({"a": [math.nan, math.inf, 0.5]}, {"a": [None, None, 0.5]}),
    ],
)
def test_a_reply_can_always_be_written(content: object, read: object) -> None:
    assert json.loads(bytes(JsonReply(content).body)) == read
