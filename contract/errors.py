"""Every error Kernelscope raises on purpose.

KernelscopeError           a message of one line; exit code 1
├── UsageError             a wrong command or setting; exit code 2
├── ImageError             bytes that cannot be decoded to an image; has a `code` and an HTTP `status`
│   ├── EmptyImage         400 empty
│   ├── ImageTooLarge      413 too_large
│   ├── UnsupportedImage   415 unsupported_image
│   └── UndecodableImage   422 undecodable_image
├── DataError              labelled images that cannot be trained on
└── BundleError            a bundle or a repository that cannot be read or written
    └── BundleNotFound     no such model or version
"""

from __future__ import annotations

from typing import ClassVar


class KernelscopeError(Exception):
    """Base class; `str(error)` is one line that says what is wrong and what would be right."""

    exit_code: ClassVar[int] = 1


class UsageError(KernelscopeError):
    """A wrong command, option or setting; nothing was done."""

    exit_code = 2


class ImageError(KernelscopeError):
    """Bytes that cannot be decoded to an image.

    Attributes:
        code: a short identifier for programs, the `error.code` of a REST reply.
        status: the HTTP status of that reply.
    """

    code: ClassVar[str] = "image"
    status: ClassVar[int] = 422


class EmptyImage(ImageError):
    """There are no bytes at all."""

    code = "empty"
    status = 400


class ImageTooLarge(ImageError):
    """More bytes or more pixels than allowed; raised before any pixel is decoded."""

    code = "too_large"
    status = 413


class UnsupportedImage(ImageError):
    """Not an image, or not of a type that is read here."""

    code = "unsupported_image"
    status = 415


class UndecodableImage(ImageError):
    """An image of a known type whose content is damaged or has no single frame."""

    code = "undecodable_image"
    status = 422


class DataError(KernelscopeError):
    """Labelled images that cannot be trained or evaluated on."""


class BundleError(KernelscopeError):
    """A bundle or a repository of bundles that cannot be read or written."""


class BundleNotFound(BundleError):
    """No model of that name, or no such version of it."""
