"""`kernelscope push` and `kernelscope pull`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from contract import repository
from contract.errors import KernelscopeError, UsageError
from service.environment import PREFIX
from service.storage.errors import StoreError
from service.storage.pull import Changes, Puller

_LONGEST_WATCH: Final = 86400.0


def push(arguments: list[str]) -> int:
    """Upload a version of a model; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="kernelscope push",
        description="Upload a version of a model to an object store, its manifest last.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope push pets s3://bucket/models --models out
  kernelscope push pets file:///srv/models --version 2

Credentials and the endpoint of S3 are taken as the AWS tools take them.""",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="the model's name")
    add("address", metavar="ADDRESS", help="where models are: s3://bucket/models, or another address of fsspec's")
    add("--models", type=Path, metavar="DIR", help="folder of models (KERNELSCOPE_MODELS, else the shipped one)")
    add("--version", type=int, metavar="N", help="which version of it (the newest)")
    chosen = parser.parse_args(arguments)

    from service.classifier import models_folder
    from service.storage.push import push as upload
    from service.storage.store import Store

    bundle = repository.find(chosen.models or models_folder(), chosen.model, chosen.version)
    store = Store(chosen.address)
    is_new = upload(bundle, store)
    print(f"{store.url(f'{chosen.model}/{bundle.version}')} {'is uploaded' if is_new else 'was there already'}")
    return 0


def pull(arguments: list[str]) -> int:
    """Fill a models folder from an object store, once or for ever; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="kernelscope pull",
        description="Download what is new in an object store into the models folder, checked and whole.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope pull s3://bucket/models --models models
  kernelscope pull s3://bucket/models --models models --watch 30    beside `kernelscope serve --models models`

Credentials and the endpoint of S3 are taken as the AWS tools take them.""",
    )
    add = parser.add_argument
    add("address", metavar="ADDRESS", help="where models are: s3://bucket/models, or another address of fsspec's")
    add("--models", type=Path, metavar="DIR", help="folder to fill (KERNELSCOPE_MODELS)")
    add("--keep", type=int, default=2, metavar="N", help="versions of each model, the newest; 0 for all (2)")
    add("--watch", type=float, metavar="SECONDS", help="look again and again, with so many seconds between")
    chosen = parser.parse_args(arguments)
    if chosen.keep < 0:
        raise UsageError(f"--keep is {chosen.keep}; it must be 0 or more")
    if chosen.watch is not None and not 0 < chosen.watch <= _LONGEST_WATCH:
        raise UsageError(f"--watch is {chosen.watch:g}; it must be more than 0, and {_LONGEST_WATCH:g} at most")
    root = chosen.models or os.environ.get(f"{PREFIX}MODELS")
    if not root:
        raise UsageError("give the folder to fill: --models DIR, or KERNELSCOPE_MODELS")

    from service.storage.store import Store

    puller = Puller(Store(chosen.address), Path(root), chosen.keep)
    if chosen.watch is not None:
        _watch(puller, chosen.watch)
    changes = puller.round()
    _Said().tell(changes)
    return 1 if changes.refused else 0


def _watch(puller: Puller, seconds: float) -> NoReturn:
    """Pull again and again, until SIGTERM or SIGINT; what goes wrong is said, and the next look may succeed."""
    signal.signal(signal.SIGTERM, _end)  # a container's first process would not be ended by it
    said = _Said()
    pause = threading.Event()
    while True:
        try:
            said.tell(puller.round())
        except (KernelscopeError, OSError) as error:
            said.fail(error)
        pause.wait(seconds)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


class _Said:
    """Tells what has changed, a line each; what stays as it is is told once."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}
        self._failure = ""

    def tell(self, changes: Changes) -> None:
        if self._failure:
            _print("the store is read again")
            self._failure = ""
        for path in changes.placed:
            print(f"{path} is in place", flush=True)
        for path in changes.removed:
            print(f"{path} is older than those that are kept: removed", flush=True)
        for path, reason in changes.refused.items():
            if self._refused.get(path) != reason:
                _print(f"{path} is refused: {reason}")
        self._refused = dict(changes.refused)

    def fail(self, error: Exception) -> None:
        kind = "" if isinstance(error, StoreError) else f"{getattr(error, 'filename', None) or 'the models folder'}: "
        reason = getattr(error, "strerror", None) or str(error)
        if reason != self._failure:
            _print(f"{kind}{reason}; what is there stays")
            self._failure = reason


def _print(line: str) -> None:
    print(f"kernelscope pull: {line}", file=sys.stderr, flush=True)
