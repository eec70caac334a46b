"""The files of the page: their headers, what they ask for, and what is not served."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import ROOT, Server

WEB = ROOT / "service" / "web"
PAGES = ("/", "/docs")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_comes_with_a_strict_policy(server: Server, path: str) -> None:
    reply = server.client.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", [*PAGES, "/web/main.js", "/web/style.css", "/web/examples/cat.png"])
def test_what_a_browser_has_is_not_sent_again(server: Server, path: str) -> None:
    first = server.client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = server.client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert server.client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"), [("gzip, br", True), ("GZIP;q=0.5", True), ("gzip;q=0", False), ("", False)]
)
def test_text_is_packed_for_who_takes_it(server: Server, accepted: str, packed: bool) -> None:
    reply = server.client.get("/web/main.js", headers={"Accept-Encoding": accepted})
    assert (reply.headers.get("content-encoding") == "gzip") == packed
    assert reply.headers["vary"] == "accept-encoding"
    assert reply.content == (WEB / "main.js").read_bytes()
    assert ("gzip" in reply.headers["etag"]) == packed


def test_a_head_request_tells_the_length(server: Server) -> None:
    reply = server.client.head("/")
    assert reply.headers["content-length"] == server.client.get("/").headers["content-length"]
    assert reply.content == b""


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/web/main.js", "text/javascript; charset=utf-8"),
        ("/web/style.css", "text/css; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
        ("/web/examples/cat.png", "image/png"),
    ],
)
def test_files_say_what_they_are(server: Server, path: str, content_type: str) -> None:
    assert server.client.get(path).headers["content-type"] == content_type


@pytest.mark.parametrize(
    "path", ["/web/none.js", "/web/", "/web/%2e%2e/app.py", "/web/lib/../../app.py", "/web/examples/..%2f..%2fcat.jpg"]
)
def test_nothing_else_is_served(server: Server, path: str) -> None:
    reply = server.client.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "not_found"


def test_examples_are_those_that_the_package_holds(server: Server) -> None:
    listed = server.client.get("/web/examples").json()["examples"]
    assert [one["name"] for one in listed] == sorted(path.stem for path in (ROOT / "examples" / "images").iterdir())
    for one in listed:
        assert (
            server.client.get("/" + one["url"]).content
            == (ROOT / "examples" / "images" / f"{one['name']}.png").read_bytes()
        )


def test_no_file_names_another_host_or_an_absolute_address() -> None:
    for path in WEB.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"""https?://(?!www\.w3\.org/2000/svg)""", text), path
            assert not re.search(r"""(?:src|href|import|from|url\()\s*[=(]?\s*["']?/""", text), path


def test_every_import_is_of_a_file_that_is_there() -> None:
    for path in WEB.rglob("*.js"):
        for name in re.findall(r"""(?:from|import\()\s*"(\.[^"]+)\"""", path.read_text(encoding="utf-8")):
            assert (path.parent / name).resolve().is_file(), (path, name)


def test_the_page_asks_for_all_that_it_starts_with_at_once() -> None:
    """A module's imports are known once it has come: one after the other they would cost a round trip each."""
    needed, waiting = set[str](), [WEB / "main.js"]
    while waiting:
        path = waiting.pop()
        found = re.findall(r'''^import[^"]*?from "(\.[^"]+)"''', path.read_text(encoding="utf-8"), re.MULTILINE)
        modules = {(path.parent / name).resolve() for name in found}
        waiting += [module for module in modules if module.relative_to(WEB).as_posix() not in needed]
        needed |= {module.relative_to(WEB).as_posix() for module in modules}
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r"""<link rel="modulepreload" href="web/([^"]+)">""", page)) == needed


def test_the_page_needs_no_key_but_its_calls_do(serve: Callable[..., Server], colours: Path) -> None:
    client = serve("--models", str(colours), KERNELSCOPE_API_KEYS="open-sesame").client
    for path in (*PAGES, "/web/main.js", "/web/examples"):
        assert client.get(path).status_code == 200
    for path in ("/models", "/openapi.json", "/docs/other", "/webx"):
        assert client.get(path).status_code == 401


def test_the_wheel_holds_the_page_and_the_examples(tmp_path: Path) -> None:
    """Files beside the code are easily left out of a distribution; a checkout does not show it."""
    source = tmp_path / "source"
    for name in ("contract", "kernelscope", "service", "training", "examples", "requirements"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    (source / "models").mkdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert held >= {f"service/web/{path.relative_to(WEB).as_posix()}" for path in WEB.rglob("*") if path.is_file()}
    assert held >= {f"kernelscope_examples/{path.name}" for path in (ROOT / "examples" / "images").iterdir()}
