"""Ways to attack: what begins an attack, and then makes one attempt after the other."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Callable, Sequence

from tests.support.attack import Target
from tests.support.mutation import Body

Attempt = Callable[[int], object]
Begin = Callable[[Target], Attempt]
_BLOCK = 2**16


def images(make: Callable[[], bytes]) -> Begin:
    """An image to every operation, in each form that it takes."""

    def begin(target: Target) -> Attempt:
        return bodies(target.bodies.carrying(make()))(target)

    return begin


def bodies(sent: Sequence[Body]) -> Begin:
    """These bodies, one after the other."""

    def begin(target: Target) -> Attempt:
        turn = itertools.count()
        return lambda _: target.post(sent[next(turn) % len(sent)])

    return begin


def everywhere(make: Callable[[], bytes], headers: dict[str, str]) -> Begin:
    """The same bytes to every path."""

    def begin(target: Target) -> Attempt:
        content = make()
        return bodies([Body(path, content, headers) for path in sorted(target.bodies.paths)])(target)

    return begin


def pour(beginning: bytes, more: bytes, most: int) -> Begin:
    """A beginning and then the same bytes again, `most` in all or until the server has had enough."""

    def begin(target: Target) -> Attempt:
        block = more * (_BLOCK // len(more) + 1)

        def attempt(_: int) -> None:
            connection = target.connect()
            try:
                connection.sendall(beginning)
                for _ in range(most // len(block)):
                    if target.stop.is_set():
                        break
                    connection.sendall(block)
                target.stop.wait(1)
            finally:
                target.close(connection)

        return attempt

    return begin


def hold(said: bytes, *, drip: bytes = b"", every: float = 0.2, count: int = 1) -> Begin:
    """`count` connections that say something and stay until the attack ends, with a byte or so from time to time."""

    def begin(target: Target) -> Attempt:
        def attempt(_: int) -> None:
            opened: list[socket.socket] = []
            try:
                for _ in range(count):
                    opened.append(target.connect())
                    opened[-1].sendall(said)
                while not target.stop.wait(every):
                    if drip:
                        opened = [connection for connection in opened if _goes_on(connection, drip)]
            finally:
                for connection in opened:
                    target.close(connection)

        return attempt

    return begin


def _goes_on(connection: socket.socket, drip: bytes) -> bool:
    try:
        connection.sendall(drip)
    except OSError:
        connection.close()
        return False
    return True


def leave(said: bytes, *, reset: bool) -> Begin:
    """Clients that say something and leave, by a reset or by closing; at most fifty a second and thread."""

    def begin(target: Target) -> Attempt:
        def attempt(_: int) -> None:
            connection = target.connect()
            connection.sendall(said)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            target.close(connection)
            target.stop.wait(0.02)

        return attempt

    return begin
