"""The page at `/`, the reference at `/docs`, and the files that both are made of.

Everything comes from this server: no font, script or style of another host is asked for, and a strict
Content-Security-Policy lets the browser hold to that. All addresses in the files are relative, so that the page works
under any prefix that a proxy puts before it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from service.http.json_reply import JsonReply

WEB: Final = Path(__file__).resolve().parent.parent / "web"
"""Where the page's files are."""

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy Level 3 (W3C): what a page may load, and from where."""

HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # kept, but asked for again each time: an ETag makes that cheap
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class _File:
    """A file as it is sent: as it is, or packed by gzip; an ETag for each (RFC 9110, 8.8.3.3)."""

    content_type: str
    plain: bytes
    packed: bytes
    etag: str

    def headers(self, *, is_packed: bool) -> dict[str, str]:
        etag = f'"{self.etag}-gzip"' if is_packed else f'"{self.etag}"'
        packed = {"content-encoding": "gzip"} if is_packed else {}
        return {**HEADERS, "content-type": self.content_type, "etag": etag, "vary": "accept-encoding", **packed}


@router.head("/")
@router.get("/")
async def page(request: Request) -> Response:
    """The page."""
    return _answer(request, WEB / "index.html")


@router.head("/docs")
@router.get("/docs")
async def docs(request: Request) -> Response:
    """Every call of the REST interface, made from the OpenAPI document."""
    return _answer(request, WEB / "docs.html")


@router.get("/web/examples")
async def examples() -> JsonReply:
    """The example images that come with this package: their names, and their addresses relative to the page."""
    return JsonReply(
        {"examples": [{"name": path.stem, "url": f"web/examples/{path.name}"} for path in _examples().values()]},
        headers=HEADERS,
    )


@router.head("/web/examples/{name}")
@router.get("/web/examples/{name}")
async def example(request: Request, name: str) -> Response:
    """One of the example images."""
    return _answer(request, _examples().get(name))


@router.head("/web/{path:path}")
@router.get("/web/{path:path}")
async def file(request: Request, path: str) -> Response:
    """One of the files that the page is made of."""
    return _answer(request, _files().get(path))


def _answer(request: Request, path: Path | None) -> Response:
    """A file, or 304 where the browser has it already. Raises 404 for `None`."""
    if path is None:
        raise HTTPException(404)
    content = _read(path)
    is_packed = len(content.packed) < len(content.plain) and _takes_gzip(request.headers.get("accept-encoding", ""))
    headers = content.headers(is_packed=is_packed)
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={name: headers[name] for name in (*HEADERS, "etag", "vary")})
    return Response(content.packed if is_packed else content.plain, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.split(","):
        coding, _, weight = part.replace(" ", "").partition(";q=")
        if coding.lower() == "gzip":
            return not re.fullmatch(r"0(\.0*)?", weight)
    return False


@cache
def _read(path: Path) -> _File:
    content = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:12]).decode()
    return _File(_TYPES[path.suffix], content, gzip.compress(content, mtime=0), digest)


@cache
def _files() -> dict[str, Path]:
    """The page's files by path: what is not listed here is not served, whatever a request says."""
    return {path.relative_to(WEB).as_posix(): path for path in sorted(WEB.rglob("*")) if path.suffix in _TYPES}


@cache
def _examples() -> dict[str, Path]:
    """The example images: `examples/images` in a checkout, `kernelscope_examples` once installed; else none."""
    home = WEB.parent.parent
    folders = [folder for folder in (home / "kernelscope_examples", home / "examples" / "images") if folder.is_dir()]
    return {path.name: path for folder in folders[:1] for path in sorted(folder.iterdir()) if path.suffix == ".png"}
