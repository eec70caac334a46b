"""Every error Kernelscope raises on purpose.

KernelscopeError             one line for a person; exit code 1
├── UsageError               the command or a setting is wrong; exit code 2
├── PictureError             bytes that do not become a picture; has a `code` and an HTTP `status`
│   ├── EmptyPicture         400 empty
│   ├── PictureTooLarge      413 too_large
│   ├── UnsupportedPicture   415 unsupported_picture
│   └── UndecodablePicture   422 undecodable_picture
├── DataError                labelled pictures that cannot be trained on
└── BundleError              a bundle, or a repository of them, that cannot be read or written
    └── BundleNotFound       no such model or version
"""

from __future__ import annotations

from typing import ClassVar


class KernelscopeError(Exception):
    """Base of all; `str(error)` is one line that says what was wrong and what would be right."""

    exit_code: ClassVar[int] = 1


class UsageError(KernelscopeError):
    """The caller asked for something that makes no sense; nothing was done."""

    exit_code = 2


class PictureError(KernelscopeError):
    """Bytes that do not become a picture.

    Attributes:
        code: a short identifier for programs, the `error.code` of a REST reply.
        status: the HTTP status that says the same.
    """

    code: ClassVar[str] = "picture"
    status: ClassVar[int] = 422


class EmptyPicture(PictureError):
    """There are no bytes at all."""

    code = "empty"
    status = 400


class PictureTooLarge(PictureError):
    """More bytes or more pixels than allowed; raised before any pixel is decoded."""

    code = "too_large"
    status = 413


class UnsupportedPicture(PictureError):
    """Not a picture, or not of a type that is read here."""

    code = "unsupported_picture"
    status = 415


class UndecodablePicture(PictureError):
    """A picture of a known type whose content is damaged or has no single frame."""

    code = "undecodable_picture"
    status = 422


class DataError(KernelscopeError):
    """Labelled pictures that cannot be trained or evaluated on."""


class BundleError(KernelscopeError):
    """A bundle or a repository of bundles that cannot be read or written."""


class BundleNotFound(BundleError):
    """No model of that name, or no such version of it."""
