"""Every error Kernelscope raises on purpose.

KernelscopeError             one line for a person; exit code 1
├── UsageError               the command or a setting is wrong; exit code 2
├── ImageError             bytes that do not become an image; has a `code` and an HTTP `status`
│   ├── EmptyImage         400 empty
│   ├── ImageTooLarge      413 too_large
│   ├── UnsupportedImage   415 unsupported_image
│   └── UndecodableImage   422 undecodable_image
├── DataError                labelled images that cannot be trained on
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


class ImageError(KernelscopeError):
    """Bytes that do not become an image.

    Attributes:
        code: a short identifier for programs, the `error.code` of a REST reply.
        status: the HTTP status that says the same.
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
