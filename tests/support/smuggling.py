"""Requests whose end two parsers may see in different places: a proxy in front, and the server behind it."""

from __future__ import annotations

INNER = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
"""What is hidden in the body of another request; a server that answers it has been deceived."""
_END = b"0\r\n\r\n"


def _post(*lines: bytes, body: bytes) -> bytes:
    return b"\r\n".join([b"POST /predict HTTP/1.1", b"Host: x", *lines, b"", body])


def _hidden(*lines: bytes) -> bytes:
    return _post(*lines, body=_END + INNER)


_LENGTH = b"Content-Length: %d" % len(_END + INNER)
_CHUNKED = b"Transfer-Encoding: chunked"
_CHUNK = b"%x\r\n%b\r\n" % (len(INNER), INNER) + _END

REFUSED = {
    "a length and chunks": _hidden(_LENGTH, _CHUNKED),
    "chunks and a length": _hidden(_CHUNKED, _LENGTH),
    "chunks and a short length": _post(_CHUNKED, b"Content-Length: 4", body=_CHUNK),
    "two lengths": _hidden(b"Content-Length: 0", _LENGTH),
    "two lengths, the other way round": _hidden(_LENGTH, b"Content-Length: 0"),
    "a list of lengths": _hidden(b"Content-Length: 0, %d" % len(_END + INNER)),
    "a length with a sign": _hidden(b"Content-Length: +0"),
    "a negative length": _hidden(b"Content-Length: -1"),
    "a hexadecimal length": _hidden(b"Content-Length: 0x0"),
    "a length beyond 64 bits": _hidden(b"Content-Length: 18446744073709551616"),
    "a length with a blank in it": _hidden(b"Content-Length: 0 0"),
    "a blank before the colon": _hidden(b"Transfer-Encoding : chunked"),
    "a tab before the colon": _hidden(b"Transfer-Encoding\t: chunked"),
    "chunks that are not the last coding": _hidden(b"Transfer-Encoding: chunked, identity"),
    "an unknown coding": _hidden(b"Transfer-Encoding: xchunked", _LENGTH),
    "a vertical tab before the coding": _hidden(b"Transfer-Encoding: \x0bchunked", _LENGTH),
    "two codings": _hidden(_CHUNKED, b"Transfer-Encoding: identity"),
    "a folded coding": _hidden(b"Transfer-Encoding:\r\n chunked", _LENGTH),
    "a folded header": _hidden(b"X: a\r\n Content-Length: 0", _LENGTH + b"\r\n\tx"),
    "a carriage return in a header": _hidden(b"X: a\rTransfer-Encoding: chunked", _LENGTH),
    "a line that ends with a line feed": _hidden(b"X: a\nTransfer-Encoding: chunked", _LENGTH),
    "a zero byte in a header": _hidden(b"X: a\0b"),
    "a header without a colon": _hidden(b"Transfer-Encoding chunked", _LENGTH),
    "a header without a name": _hidden(b": chunked", _LENGTH),
    "a chunk of 17 hexadecimal digits": _post(_CHUNKED, body=b"1" + b"0" * 16 + b"\r\n" + INNER),
    "a chunk of negative size": _post(_CHUNKED, body=b"-1\r\n" + INNER),
    "a chunk with a prefix": _post(_CHUNKED, body=b"0x0\r\n\r\n" + INNER),
    "a chunk without a size": _post(_CHUNKED, body=b"\r\n\r\n" + INNER),
    "a chunk longer than its size": _post(_CHUNKED, body=b"1\r\nxx\r\n" + _END + INNER),
    "a chunk that ends with a line feed": _post(_CHUNKED, body=b"1\nx\n0\n\n" + INNER),
    "a method with a blank": b"PO ST /predict HTTP/1.1\r\nHost: x\r\n\r\n" + INNER,
    "HTTP of another version": b"POST /predict HTTP/7.3\r\nHost: x\r\n\r\n" + INNER,
    "another protocol": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + INNER,
    "HTTP/2 without having asked": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER,
}  # fmt: skip
"""Each must be refused, and its connection closed (RFC 9112, sections 2.2, 5.1, 5.2, 6.1 and 6.3)."""
