"""The attacks: those that once brought the service down or made it lie, and variants of each kind."""

from __future__ import annotations

from tests.support import bombs
from tests.support.attack import Attack
from tests.support.bombs import LARGE_BODY
from tests.support.mutation import Body
from tests.support.raw import head
from tests.support.sending import bodies, everywhere, hold, images, leave, pour

JSON = {"content-type": "application/json"}
FORM = {"content-type": bombs.FORM}
CHUNKED = head("POST", "/predict", "Transfer-Encoding: chunked")


def _strings() -> list[Body]:
    odd = r"\ud800"
    infer = '{"inputs":[{"name":%s,"shape":[1],"datatype":%s,"parameters":{%s:%s},"data":[%s]}]}'
    plain = ['"images"', '"BYTES"', '"binary_data_size"', "4", '""']
    sent = []
    for place in range(len(plain)):
        parts = [*plain[:place], f'"{odd}"', *plain[place + 1 :]]
        sent.append(Body("/v2/models/cifar10/infer", (infer % tuple(parts)).encode(), JSON))
    sent += [
        Body("/predict", b'{"image":"\\ud800"}', JSON),
        Body("/predict?model=%ED%A0%80", bombs.photograph()),
        Body("/v1/models/%ED%A0%80:predict", b'{"instances":[]}', JSON),
        Body("/v1/models/cifar10:predict", b'{"signature_name":"\\ud800","instances":[{"b64":"\\udfff"}]}', JSON),
        Body("/v2/repository/models/%00/load", b'{"parameters":{"\\ud800":"\\ud800"}}', JSON),
    ]
    return sent


_MILLION = b"Content-Length: 1000000"
_PIPELINED = head("GET", "/openapi.json") * 200

ATTACKS = (
    # what frames a request has no end
    Attack("endless trailers", "framing", pour(CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Trailer: y\r\n", 65_000_000), 1),
    Attack(
        "endless chunk extensions", "framing", pour(CHUNKED + b"1;", b"extension=y;", 65_000_000), 2, is_variant=True
    ),
    Attack(
        "one endless header", "framing", pour(b"GET / HTTP/1.1\r\nX-Long: ", b"y" * 64, 65_000_000), 2, is_variant=True
    ),
    # decoding takes long
    Attack("a JPEG of 1,500 scans", "decoding", images(bombs.repeated_scans)),
    Attack("a run-length bitmap of 1 kB", "decoding", images(bombs.run_length_bitmap)),
    Attack("a JPEG of three million comments", "decoding", images(bombs.empty_comments), is_variant=True),
    Attack("a PNG of a million chunks", "decoding", images(bombs.empty_chunks), is_variant=True),
    # memory
    Attack("a WebP of 46 bytes", "memory", images(bombs.tiny_webp)),
    Attack(
        "60 unfinished bodies of 16 MB",
        "memory",
        pour(head("POST", "/predict", f"Content-Length: {LARGE_BODY}"), b"\0", LARGE_BODY - 2**17),
        threads=60,
    ),
    Attack("an interlaced PNG of 16 bits a channel", "memory", images(bombs.deep_png), is_variant=True),
    Attack("a TIFF of one tile of 144 megapixels", "memory", images(bombs.large_tile), is_variant=True),
    Attack(
        "60 gzip bodies of 16 kB that unpack to 16 MB",
        "memory",
        everywhere(lambda: bombs.packed(bytes(LARGE_BODY)), {"content-type": "image/png", "content-encoding": "gzip"}),
        threads=60,
        is_variant=True,
    ),
    # large images before small ones
    Attack("PNGs of 50 megapixels", "fairness", images(bombs.large_png)),
    Attack("TIFFs of 50 megapixels", "fairness", images(bombs.large_tiff), is_variant=True),
    Attack(
        "batches of 64 progressive JPEGs of 12 megapixels",
        "fairness",
        bodies([Body("/predict/batch", bombs.form([bombs.twelve_megapixels()] * 64), FORM)]),
        is_variant=True,
    ),
    # parsing
    Attack("13 MB of JSON keys", "parsing", everywhere(bombs.json_keys, JSON)),
    Attack(
        "gzipped JSON of five million lists",
        "parsing",
        everywhere(lambda: bombs.packed(bombs.json_lists()), JSON | {"content-encoding": "gzip"}),
    ),
    Attack("JSON, sixteen million brackets deep", "parsing", everywhere(bombs.json_brackets, JSON), is_variant=True),
    Attack("a number of sixteen million digits", "parsing", everywhere(bombs.json_digits, JSON), is_variant=True),
    Attack("a string of 2.7 million escapes", "parsing", everywhere(bombs.json_escapes, JSON), is_variant=True),
    Attack("base64 with a blank after each character", "parsing", everywhere(bombs.json_blanks, JSON), is_variant=True),
    Attack("a form of 300,000 parts", "parsing", everywhere(bombs.form_of_parts, FORM), is_variant=True),
    Attack(
        "a form's part of four million headers",
        "parsing",
        everywhere(bombs.form_of_headers, FORM),
        is_variant=True,
    ),
    # strings that cannot be encoded
    Attack("lone surrogates, wherever a string may stand", "strings", bodies(_strings())),
    # connections that never end
    Attack(
        "a byte now and then after a reply",
        "connections",
        hold(head("POST", "/nothing", _MILLION.decode()) + b"x", drip=b"x"),
        40,
    ),
    Attack(
        "bodies after 413 without end",
        "connections",
        pour(head("POST", "/predict", "Content-Length: 100000000000"), b"\0" * 1024, 10**11),
    ),
    Attack("bodies that never come", "connections", hold(head("POST", "/predict", _MILLION.decode()), count=10), 10),
    Attack(
        "headers that come byte by byte",
        "connections",
        hold(b"GET / HTTP/1.1\r\nX-Slow: ", drip=b"y", count=10),
        10,
        is_variant=True,
    ),
    Attack("replies that nobody reads", "connections", hold(_PIPELINED, drip=_PIPELINED), 10, is_variant=True),
    Attack("6,000 connections that say nothing", "connections", hold(b"", count=1500), 4),
    Attack(
        "6,000 connections that say one letter",
        "connections",
        hold(b"G", drip=b"E", every=5, count=1500),
        4,
        is_variant=True,
    ),
    # clients that leave
    Attack(
        "clients that leave while they upload",
        "leaving",
        leave(head("POST", "/predict", _MILLION.decode()) + bytes(100_000), reset=False),
    ),
    Attack(
        "clients that reset while they upload a chunked body",
        "leaving",
        leave(head("POST", "/v2/models/cifar10/infer", "Transfer-Encoding: chunked") + b"ffff\r\nx", reset=True),
        is_variant=True,
    ),
    Attack(
        "clients that reset once they have uploaded",
        "leaving",
        leave(head("POST", "/predict", f"Content-Length: {len(bombs.photograph())}") + bombs.photograph(), reset=True),
        is_variant=True,
    ),
    # no key
    Attack(
        "a flood without a key",
        "keys",
        bodies([Body("/predict", bombs.photograph(), {"content-type": "image/jpeg"})]),
        32,
        key="secret",
        allowed=frozenset({401}),
    ),
    Attack(
        "a flood with a wrong key, without end",
        "keys",
        bodies([Body("/predict", b"", {"content-type": "image/jpeg", "x-api-key": "secre"})]),
        32,
        is_variant=True,
        key="secret",
        allowed=frozenset({401}),
    ),
    Attack(
        "a flood without a key to every path",
        "keys",
        images(bombs.photograph),
        32,
        is_variant=True,
        key="secret",
        allowed=frozenset({401}),
    ),
)
