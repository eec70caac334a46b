"""The files of a multipart form that is in memory, by python-multipart's parser.

Starlette's reader makes a temporary file of each, for a form may be larger than memory. Here its size is bounded before
it is parsed, and a file is a slice of it.

Source: RFC 7578.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MOST_PARTS: Final = 4096
"""Files in a form that are parsed at all, and other fields: enough to say how many there are, no room for mischief."""
_MOST_FIELD: Final = 2**20
"""Bytes of a field that is no file."""
_MOST_CACHED: Final = 256
"""Bytes of a header whose meaning is kept: a client sends the same ones again and again."""


class FormError(Exception):
    """The body is no form as it should be."""


def files(content_type: str, data: bytes) -> list[bytes]:
    """The content of each part that has a file's name, in order.

    Args:
        content_type: the request's header, with the boundary.
        data: the whole form.

    Raises:
        FormError: it cannot be read.
    """
    boundary = _options(content_type.encode("latin-1")).get(b"boundary")
    if boundary is None:
        raise FormError("Missing boundary in multipart.")
    only = _only_file(boundary, data)
    return parsed(boundary, data) if only is None else [only]


def parsed(boundary: bytes, data: bytes) -> list[bytes]:
    """As `files`, by the library's parser alone."""
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(data)
        parser.finalize()
    except FormParserError:
        raise FormError("Invalid multipart data.") from None
    return form.files


def _only_file(boundary: bytes, data: bytes) -> bytes | None:
    """The content of the one part of a form, where it is plainly that; None for any other form.

    The parser takes a tenth of a small model's time. What a part's head means is the parser's to say, and it says so
    once: all but the content and the boundary is the same in the next form of the same client.
    """
    delimiter = b"\r\n--" + boundary
    if not data.startswith(delimiter[2:] + b"\r\n"):
        return None
    start, end = len(delimiter), data.find(b"\r\n\r\n", len(delimiter))
    close = data.find(delimiter, end + 4)
    if not 0 < end - start <= _MOST_CACHED or data[close:] not in (delimiter + b"--", delimiter + b"--\r\n"):
        return None
    return data[end + 4 : close] if _is_head_of_file(data[start:end]) else None


@lru_cache(256)
def _is_head_of_file(head: bytes) -> bool:
    """Whether a part with this head is a file: the parser is asked, with a form that has nothing else."""
    try:
        return parsed(b"x", b"--x\r\n" + head + b"\r\n\r\n\r\n--x--\r\n") == [b""]
    except FormError:
        return False


class _Form:
    """What the parser has found so far.

    Attributes:
        files: each file that has come to its end.
    """

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self._chunks: list[bytes] | None = None  # of the present part, where it is a file
        self._file_parts = self._fields = self._field_size = 0
        self._name = self._value = self._disposition = b""

    def callbacks(self) -> MultipartCallbacks:
        """What the parser is to call."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
        }

    def _on_part_begin(self) -> None:
        self._disposition, self._chunks, self._field_size = b"", None, 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        options = _options(self._disposition)
        if b"name" not in options:
            raise FormError('The Content-Disposition header field "name" must be provided.')
        if b"filename" in options:
            self._chunks = []
            self._file_parts += 1
        else:
            self._fields += 1
        if self._file_parts > _MOST_PARTS:
            raise FormError(f"Too many files. Maximum number of files is {_MOST_PARTS}.")
        if self._fields > _MOST_PARTS:
            raise FormError(f"Too many fields. Maximum number of fields is {_MOST_PARTS}.")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._chunks is not None:
            self._chunks.append(data[start:end])
            return
        self._field_size += end - start
        if self._field_size > _MOST_FIELD:
            raise FormError(f"Part exceeded maximum size of {_MOST_FIELD // 1024}KB.")

    def _on_part_end(self) -> None:
        if self._chunks is not None:
            self.files.append(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))


def _options(header: bytes) -> dict[bytes, bytes]:
    """The parameters of a header such as `form-data; name="file"; filename="a.jpg"`."""
    return _kept(header) if len(header) <= _MOST_CACHED else parse_options_header(header)[1]


@lru_cache(256)
def _kept(header: bytes) -> dict[bytes, bytes]:
    return parse_options_header(header)[1]
