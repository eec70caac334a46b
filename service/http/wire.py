"""A reply as the bytes that go over the connection, for replies that uvicorn does not send."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE


def written(
    response: Response, request_id: bytes, default_headers: Iterable[tuple[bytes, bytes]], *, close: bool
) -> bytes:
    """A whole reply, byte for byte as uvicorn writes it.

    Args:
        response: what to send.
        request_id: of the request.
        default_headers: uvicorn's own, such as the date.
        close: whether the connection is closed behind it.
    """
    lines = [STATUS_LINE[response.status_code]]
    for name, value in (*default_headers, *response.raw_headers):
        lines += (name, b": ", value, b"\r\n")
    lines += (b"x-request-id: ", request_id, b"\r\nconnection: close\r\n\r\n" if close else b"\r\n\r\n")
    lines.append(bytes(response.body))
    return b"".join(lines)
