"""The client for threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import httpx

from kernelscope.client import calls, replies
from kernelscope.client.calls import BATCH, MOST_IN_FLIGHT, TIMEOUT, Call, ImageLike
from kernelscope.client.errors import ImageRejected, UnexpectedReply
from kernelscope.client.replies import Health, Model, Prediction, Rejected
from kernelscope.client.retrying import Attempts, Retry, Wait

Results = list[Prediction | Rejected]


class Client:
    """Asks a service. Threads may share one.

    Args:
        url: where it is.
        api_key: one of its `KERNELSCOPE_API_KEYS`.
        timeout: seconds that a call may take, all tries together; each call may say another.
        retry: how a call is tried again.
        transport: of httpx, such as `httpx.HTTPTransport(uds="/run/kernelscope.sock")` for a Unix socket.

    Every call raises `ClientError`: `ConnectionFailed`, `DeadlineExceeded`, `UnexpectedReply`, or one of the kinds of
    `RequestRejected`, which `kernelscope.client.errors` lists.

    Example:
        >>> with Client("http://localhost:8000", api_key="secret") as client:  # doctest: +SKIP
        ...     prediction = client.predict("cat.jpg", model="pets", timeout=2)
        ...     print(prediction.label, prediction.probability)
    """

    def __init__(
        self,
        url: str = "http://localhost:8000",
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url, self._timeout, self._retry = url, calls.check_timeout(timeout), retry or Retry()
        self._http = httpx.Client(**calls.base(url, api_key), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        top_k: int | None = None,
        timeout: float | None = None,
    ) -> Prediction:
        """What is in an image.

        Args:
            image: a path, or an encoded image.
            model, version: which model answers; by default the service's default, and the newest.
            top_k: classes to list.
            timeout: seconds that the call may take.
        """
        return replies.prediction(self._call(calls.predict(image, model, version, top_k), self._attempts(timeout)))

    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        model: str | None = None,
        version: int | None = None,
        top_k: int | None = None,
        timeout: float | None = None,
        batch_size: int = BATCH,
    ) -> Results:
        """What is in each of several images, in their order; `Rejected` in place of one that cannot be read.

        Requests of `batch_size` images are sent one after the other, within one deadline. Arguments are those of
        `predict`.
        """
        seconds = self._timeout if timeout is None else calls.check_timeout(timeout)
        deadline = time.monotonic() + seconds
        results: Results = []
        for batch in calls.in_batches(images, batch_size):
            results += self._batch(batch, model, version, top_k, seconds, deadline)
        return results

    def predict_many(
        self,
        images: Iterable[ImageLike],
        *,
        model: str | None = None,
        version: int | None = None,
        top_k: int | None = None,
        timeout: float | None = None,
        batch_size: int = BATCH,
    ) -> Iterator[Prediction | Rejected]:
        """What is in each of any number of images, in their order, as the answers come.

        A few requests are under way at once, and only their images are held; the deadline is of each request. Arguments
        are those of `predict_batch`.
        """
        seconds = self._timeout if timeout is None else calls.check_timeout(timeout)
        waiting: deque[Future[Results]] = deque()
        with ThreadPoolExecutor(MOST_IN_FLIGHT) as threads:
            try:
                for batch in calls.in_batches(images, batch_size):
                    waiting.append(threads.submit(self._batch, batch, model, version, top_k, seconds, None))
                    if len(waiting) == MOST_IN_FLIGHT:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def explain(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Why an image is classified as it is: the reply to `POST /explain` as it comes.

        Args:
            image: a path, or an encoded image.
            model, version, timeout: as `predict` takes them.
            options: parameters of the call, such as `method="occlusion"`.
        """
        reply = self._call(calls.explain(image, model, version, options), self._attempts(timeout))
        if not isinstance(reply, dict):
            raise UnexpectedReply(f"{self._url} is no Kernelscope service: its reply is no object")
        return reply

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """The versions that answer."""
        return replies.models(self._call(calls.models(), self._attempts(timeout)))

    def card(self, name: str, *, timeout: float | None = None) -> dict[str, Any]:
        """A model's card, as `card.json` has it."""
        return replies.card(self._call(calls.card(name), self._attempts(timeout)))

    def health(self, *, timeout: float | None = None) -> Health:
        """How the service is."""
        return replies.health(self._call(calls.health(), self._attempts(timeout)))

    def _attempts(self, timeout: float | None, deadline: float | None = None) -> Attempts:
        seconds = self._timeout if timeout is None else calls.check_timeout(timeout)
        return Attempts(self._retry, seconds, self._url, deadline)

    def _batch(
        self,
        images: Sequence[bytes],
        model: str | None,
        version: int | None,
        top_k: int | None,
        seconds: float,
        deadline: float | None,
    ) -> Results:
        """The answers to one request; to two, where the service says that it was too large."""
        try:
            call = calls.predict_batch(images, model, version, top_k)
            return replies.predictions(self._call(call, self._attempts(seconds, deadline)), len(images))
        except ImageRejected as error:
            parts = calls.halves(images, error)
        return [result for part in parts for result in self._batch(part, model, version, top_k, seconds, deadline)]

    def _call(self, call: Call, attempts: Attempts) -> Any:
        while True:
            outcome = self._try(call, attempts)
            if not isinstance(outcome, Wait):
                return outcome
            time.sleep(outcome.seconds)

    def _try(self, call: Call, attempts: Attempts) -> Any:
        try:
            with self._http.stream(**call.keywords(attempts.left())) as reply:
                parts = []
                for part in reply.iter_bytes():
                    parts.append(part)
                    attempts.left()  # a reply that trickles in has the same deadline
        except httpx.TransportError as error:
            return attempts.failed(error)
        except httpx.DecodingError:
            raise UnexpectedReply(f"{self._url} replies in an encoding that is not what it says") from None
        return attempts.read(reply.status_code, reply.headers, b"".join(parts))
