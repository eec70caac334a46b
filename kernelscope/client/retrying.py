"""When a call is tried again, and when its time is up; the same for threads and for asyncio."""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import httpx

from kernelscope.client.errors import (
    ClientError,
    ConnectionFailed,
    DeadlineExceeded,
    ImageRejected,
    NotFound,
    Overloaded,
    RequestRejected,
    ServiceFailed,
    Unauthorized,
    UnexpectedReply,
)

_AGAIN: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Statuses that may be others a moment later."""
_BUSY: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_OUT_OF_TIME: Final = "deadline_exceeded"
_SHOWN: Final = 200
"""Characters of a reply that is not the service's, in an error."""


@dataclass(frozen=True)
class Retry:
    """How a call is tried again.

    Attributes:
        tries: of a call in all; 1: it is not tried again.
        first_wait: seconds before the second try at most, where the service does not say; doubled before each other.
        longest_wait: seconds that are waited at most. Where the service says to wait longer, the call fails at once.
    """

    tries: int = 5
    first_wait: float = 0.1
    longest_wait: float = 10.0


class Attempts:
    """One call: its tries and its deadline.

    Args:
        retry: how it is tried again.
        timeout: seconds that it may take in all.
        where: the address, for errors.
        deadline: by `time.monotonic`, where the call is one of several that share it.
    """

    def __init__(self, retry: Retry, timeout: float, where: str, deadline: float | None = None) -> None:
        self._retry, self._timeout, self._where = retry, timeout, where
        self._deadline = time.monotonic() + timeout if deadline is None else deadline
        self._tried = 0

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            DeadlineExceeded: there are none.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.out_of_time()
        return left

    def out_of_time(self) -> DeadlineExceeded:
        """The error of a call whose time is up."""
        return DeadlineExceeded(f"{self._where} did not answer within {self._timeout:g} s: allow more, or try later")

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        """The JSON of a reply, or a `Wait` where the call is to be tried again.

        Raises:
            RequestRejected: the reply is no success, and it is not tried again.
            UnexpectedReply: it is not JSON.
        """
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            try:
                return json.loads(body)
            except ValueError:
                raise UnexpectedReply(f"{self._where} is no Kernelscope service: its reply is not JSON") from None
        error = rejection(status, headers, body, self._where)
        if status not in _AGAIN:
            raise error
        if error.code == _OUT_OF_TIME and self._deadline - time.monotonic() < self._retry.first_wait:
            raise self.out_of_time()
        return self._wait(error, error.retry_after)

    def failed(self, error: httpx.TransportError) -> Wait:
        """The wait after a try without a reply. Raises what `read` raises, `ConnectionFailed`, `DeadlineExceeded`."""
        if isinstance(error, httpx.TimeoutException):
            raise self.out_of_time()
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            raise ConnectionFailed(f"{self._where} cannot be asked: {_line(error)}")
        return self._wait(ConnectionFailed(f"{self._where} does not answer ({_line(error)}): is it running?"), None)

    def _wait(self, error: ClientError, said: float | None) -> Wait:
        self._tried += 1
        if self._tried >= self._retry.tries:
            raise error
        if said is None:
            # full jitter: clients that were rejected together do not come back together
            longest = min(self._retry.first_wait * 2 ** (self._tried - 1), self._retry.longest_wait)
            said = random.uniform(0, longest)  # noqa: S311  # no secret
        elif said > self._retry.longest_wait:
            raise error
        if said >= self._deadline - time.monotonic():
            raise error
        return Wait(said)


@dataclass(frozen=True)
class Wait:
    """Seconds until the next try."""

    seconds: float


def rejection(status: int, headers: Mapping[str, str], body: bytes, where: str) -> RequestRejected:
    """The error of a reply that is no success."""
    code, message = "", ""
    try:
        raw = json.loads(body)
        code, message = str(raw["error"]["code"]), str(raw["error"]["message"])
    except (ValueError, KeyError, TypeError):  # of a proxy, say
        text = " ".join(body[: 4 * _SHOWN].decode("utf-8", "replace").split())[:_SHOWN]
        message = f"{where} replied {status}" + (f": {text}" if text else "")
    kinds: dict[int, type[RequestRejected]] = {401: Unauthorized, 403: Unauthorized, 404: NotFound}
    kinds |= dict.fromkeys((413, 415, 422), ImageRejected) | dict.fromkeys(_BUSY, Overloaded)
    kind = kinds.get(status, ServiceFailed if status >= HTTPStatus.INTERNAL_SERVER_ERROR else RequestRejected)
    return kind(" ".join(message.split()), status, code, retry_after(headers.get("retry-after")))


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds of a `Retry-After` header, a number or a date (RFC 9110, 10.2.3); None where it is neither.

    Example:
        >>> retry_after("3")
        3.0
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - (now or datetime.now(UTC))).total_seconds())


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
