from __future__ import annotations

import json
import logging

import pytest

from service.observability.log_setup import JsonLines
from service.observability.request_line import RequestLine, as_json, as_text

PATHS = ["/predict", "/x\n\x1b[2J", '/"\\', "/é\u2028😀\ud800", "/" + "x" * 1000]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["", "shop", "é"])
@pytest.mark.parametrize("client", [None, "127.0.0.1", '"\n', "x" * 1000])
def test_a_line_is_as_any_other_message_of_the_log(path: str, client: str | None, key: str) -> None:
    line = RequestLine(1_700_000_000.1234, "POST", path, 200, 0.0123456, client, "abc", key)
    fields = {
        "method": "POST", "path": path, "status": 200, "milliseconds": 12.35, "client": client, "request_id": "abc",
    }  # fmt: skip
    if key:
        fields["key"] = key
    record = logging.makeLogRecord(
        {"msg": f"POST {path} 200", "created": line.time, "levelname": "INFO", "fields": fields}
    )
    assert as_json(line) == JsonLines().format(record)
    assert json.loads(as_json(line))["level"] == "info"
    assert "\n" not in as_json(line) + as_text(line)
    assert "\x1b" not in as_json(line) + as_text(line)
