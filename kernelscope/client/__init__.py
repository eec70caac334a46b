"""Clients of a running Kernelscope service, for threads and for asyncio. Needs httpx: `kernelscope[client]`.

>>> from kernelscope.client import Client
>>> with Client("http://localhost:8000") as client:  # doctest: +SKIP
...     client.predict("examples/cat.jpg").label
'cat'

A call has one deadline, whatever it takes: it goes to the service with the request, and bounds all tries together. What
the service rejects because it is busy, and what never reached it, is tried again; `Retry-After` is honoured.
"""

from kernelscope.client.asynchronous import AsyncClient
from kernelscope.client.calls import ImageLike
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
from kernelscope.client.replies import Answer, Health, Model, Prediction, Rejected
from kernelscope.client.retrying import Retry
from kernelscope.client.threads import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Health",
    "ImageLike",
    "ImageRejected",
    "Model",
    "NotFound",
    "Overloaded",
    "Prediction",
    "Rejected",
    "RequestRejected",
    "Retry",
    "ServiceFailed",
    "Unauthorized",
    "UnexpectedReply",
]
