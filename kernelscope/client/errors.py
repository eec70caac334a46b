"""Every error that a client raises.

ClientError                the message is one line
├── ConnectionFailed       there was no reply: nobody listens there, or the connection was lost
├── DeadlineExceeded       the call's time was up; a TimeoutError, too
├── UnexpectedReply        what answers there is no Kernelscope service
└── RequestRejected        a reply that is no success; has `status`, `code` and `retry_after`
    ├── Unauthorized       401, 403: the API key is missing or not right
    ├── NotFound           404: no such model, version or path
    ├── ImageRejected      413, 415, 422: the image or a parameter does not fit
    ├── Overloaded         429, 503: too busy, after all tries
    └── ServiceFailed      500, 502, 504: the service, or what stands before it, failed
"""

from __future__ import annotations

from contract.errors import KernelscopeError


class ClientError(KernelscopeError):
    """Base class."""


class ConnectionFailed(ClientError):
    """There was no reply."""


class DeadlineExceeded(ClientError, TimeoutError):
    """The call's time was up."""


class UnexpectedReply(ClientError):
    """A reply that no Kernelscope service gives."""


class RequestRejected(ClientError):
    """A reply that is no success.

    Attributes:
        status: of the reply.
        code: the service's short identifier of what was wrong; empty where the reply is not the service's.
        retry_after: seconds after which the service says to try again; None where it says nothing.
    """

    def __init__(self, message: str, status: int, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class Unauthorized(RequestRejected):
    """The API key is missing or not right."""


class NotFound(RequestRejected):
    """No such model, version or path."""


class ImageRejected(RequestRejected):
    """The image or a parameter does not fit."""


class Overloaded(RequestRejected):
    """Too busy, after all tries."""


class ServiceFailed(RequestRejected):
    """The service, or what stands before it, failed."""
