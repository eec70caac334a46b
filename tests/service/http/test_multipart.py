from __future__ import annotations

import random

import pytest

from service.http import multipart
from service.http.multipart import FormError

BOUNDARY = "bench"
HEADS = [
    'Content-Disposition: form-data; name="file"; filename="a"',
    'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: image/png',
    "content-type: image/png\r\nCONTENT-DISPOSITION: form-data; name=file; filename=a",
    'Content-Disposition: form-data; name="file"; filename=""',
    'Content-Disposition: form-data; name="file"',
    'Content-Disposition: form-data; filename="a"',
    'Content-Disposition: form-data; name="--bench"; filename="--bench--"',
    "Content-Type: image/png",
    "X: " + "y" * 300 + '\r\nContent-Disposition: form-data; name="file"; filename="a"',
    "",
]
CONTENTS = [
    b"",
    b"x",
    b"\r\n",
    b"\r\n\r\n",
    b"--bench",
    b"\r\n--benc",
    b"x\r\n--bench--",
    b"\r\n--bench\r\n",
    bytes(range(256)),
]
ENDS = [b"\r\n--bench--\r\n", b"\r\n--bench--", b"\r\n--bench--\r\nx", b"\r\n--bench\r\n", b"\r\n--bench -- \r\n", b""]


def said(data: bytes, *, by_library: bool) -> list[bytes] | str:
    try:
        if by_library:
            return multipart.parsed(BOUNDARY.encode(), data)
        return multipart.files(f"multipart/form-data; boundary={BOUNDARY}", data)
    except FormError as error:
        return str(error)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("end", ENDS)
def test_the_short_way_reads_a_form_as_the_library_does(head: str, end: bytes) -> None:
    for content in CONTENTS:
        for begin in (b"--bench\r\n", b"\r\n--bench\r\n", b"--bench \r\n", b"x--bench\r\n", b"--bench"):
            data = begin + head.encode() + b"\r\n\r\n" + content + end
            assert said(data, by_library=False) == said(data, by_library=True), data


def test_so_it_does_where_bytes_are_changed() -> None:
    draw = random.Random(0)  # noqa: S311 -- no secret
    whole = f"--bench\r\n{HEADS[1]}\r\n\r\nabc--bench\r\ndef\r\n--bench--\r\n".encode()
    files = 0
    for _ in range(5000):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(data))
            data[place : place + draw.randint(0, 2)] = draw.choice(
                [b"", b"-", b"\r", b"\n", b"\r\n", b":", b"\0", b"--bench"]
            )
        short = said(bytes(data), by_library=False)
        assert short == said(bytes(data), by_library=True), bytes(data)
        files += isinstance(short, list) and bool(short)
    assert 500 < files < 4500


def test_a_form_has_many_files_and_fields_and_no_end_of_them() -> None:
    part = b'--bench\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nx\r\n'
    field = b'--bench\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
    assert said((part + field) * 3 + b"--bench--", by_library=False) == [b"x"] * 3
    assert "Too many files" in said(part * 5000 + b"--bench--", by_library=False)
    assert "Too many fields" in said(field * 5000 + b"--bench--", by_library=False)
    assert "maximum size" in said(field.replace(b"x\r\n", bytes(2**20 + 1)) + b"\r\n--bench--", by_library=False)


def test_without_a_boundary_nothing_is_read() -> None:
    with pytest.raises(FormError, match="boundary"):
        multipart.files("multipart/form-data", b"--bench--")
