from __future__ import annotations

import socket
from pathlib import Path

import pytest

from contract.errors import UsageError
from service import sockets


@pytest.mark.parametrize("host", ["", " ", "\t", "<broadcast>", "<any>"])
def test_what_is_no_address_does_not_mean_all(host: str) -> None:
    with pytest.raises(UsageError, match="give an address"):
        sockets.listen(host, 0)


@pytest.mark.parametrize("host", ["x" * 300, "no such host", "..", "192.0.2.1"])
def test_an_address_that_is_not_here_is_said_so(host: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        sockets.listen(host, 0)


def test_a_unix_socket_is_never_taken_from_another(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with sockets.listen(f"unix:{path}", 0) as opened:
        assert sockets.url(opened) == f"unix:{path}"
        with pytest.raises(UsageError, match="something listens there"):
            sockets.listen(f"unix:{path}", 0)
    sockets.listen(f"unix:{path}", 0).close()  # left behind
    sockets.remove(f"unix:{path}")
    assert not path.exists()


def test_a_file_is_not_replaced_by_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("kept")
    for host in (f"unix:{path}", "unix:", f"unix:{tmp_path / 'x' / 'y'}", "unix:" + "x" * 200):
        with pytest.raises(UsageError):
            sockets.listen(host, 0)
    assert path.read_text() == "kept"


def test_a_process_has_its_share_of_the_connections() -> None:
    assert sockets.most_connections(100, 2) == 50
    assert sockets.most_connections(5, 2) == 3
    assert sockets.most_connections(10**9, 1) < 10**9


def test_what_the_url_says_can_be_connected_to() -> None:
    with sockets.listen("127.0.0.1", 0) as opened:
        port = int(sockets.url(opened).rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
