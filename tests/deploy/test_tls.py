"""nginx with deploy/tls/nginx.conf in front of a running service."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.support.images import image
from tests.support.server import ROOT, Server
from tests.support.waiting import eventually

CONFIGURATION = (ROOT / "deploy" / "tls" / "nginx.conf").read_text()

pytestmark = pytest.mark.skipif(
    not shutil.which("nginx") or not shutil.which("openssl"), reason="nginx or openssl is not installed"
)


@pytest.fixture
def behind(serve: Callable[..., Server], colours: Path) -> Server:
    return serve("--models", str(colours), "--trusted-proxies", "127.0.0.1")


@pytest.fixture
def secure(behind: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of nginx, which trusts its certificate."""
    key, certificate = tmp_path / "privkey.pem", tmp_path / "fullchain.pem"
    name = "kernelscope.example.com"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
    words += ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = CONFIGURATION
    for shipped, here in (
        ("127.0.0.1:8000", behind.url.removeprefix("http://")),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/kernelscope", str(tmp_path)),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    (tmp_path / "server.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; client_body_temp_path {tmp_path}/body;\n"
        f"proxy_temp_path {tmp_path}/proxy; include {tmp_path}/server.conf; }}\n"
    )
    process = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"])
    try:
        trust = ssl.create_default_context(cafile=certificate)
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust, headers={"host": name}) as client:
            eventually(lambda: _answers(client), seconds=20)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_predictions_over_tls(secure: httpx.Client, behind: Server) -> None:
    reply = secure.post("/predict", content=image("red"), headers={"x-forwarded-for": "203.0.113.9"})
    assert (reply.status_code, reply.json()["label"]) == (200, "red")
    assert secure.get("/metrics").status_code == 404
    large = secure.post("/predict", content=bytes(17 * 2**20))
    assert large.status_code == 413
    behind.end()
    clients = {line["client"] for line in behind.log() if line.get("path") == "/predict"}
    assert clients == {"127.0.0.1"}  # who connected to nginx, and not what was said


def test_limits_are_the_services_own() -> None:
    settings = Settings.model_validate({})
    assert f"client_max_body_size {settings.max_body // 2**20}m;" in CONFIGURATION
    assert "server 127.0.0.1:8000;" in CONFIGURATION
    assert settings.port == 8000
    (seconds,) = [int(word.removesuffix("s;")) for word in CONFIGURATION.split("proxy_read_timeout ")[1].split()[:1]]
    assert seconds > settings.timeout
    assert int(CONFIGURATION.split("keepalive_timeout ")[1].split("s;")[0]) < settings.keep_alive
