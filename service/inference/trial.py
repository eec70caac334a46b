"""A trial: a bundle is loaded and warmed in a process of its own, before it is loaded where requests are answered.

What a graph does when it runs cannot be told from its file: it may need more memory than there is, run for ever, or
crash onnxruntime. Here that ends a process that nobody waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract import bundle, memory
from contract.errors import BundleError, KernelscopeError
from service.inference.refusal import how_it_ended

if TYPE_CHECKING:  # every start waits for this module's process: pydantic would be half of what it imports
    from service.settings import Settings

_FIRST_TO_BE_KILLED: Final = "1000"
"""Linux' `oom_score_adj`: where memory runs out, the kernel ends the trial and not a process that serves."""


async def try_to_load(candidate: bundle.Bundle, settings: Settings) -> None:
    """Load and warm a bundle in a process of its own, and see that there is memory for it in all that serve.

    Args:
        candidate: the bundle.
        settings: how models run, and how long loading one may take.

    Raises:
        BundleError: it cannot be loaded, takes longer than `settings.load_timeout`, ends its process, or takes more
            memory than there is.
    """
    arguments = json.dumps(
        [str(candidate.folder.absolute()), settings.threads, settings.providers, settings.max_batch_size]
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.inference.trial",
        arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(settings.load_timeout):
            said, _ = await process.communicate()
    except TimeoutError:
        raise BundleError(
            f"{candidate.model} is not loaded and warmed within {settings.load_timeout:g} s (KERNELSCOPE_LOAD_TIMEOUT)"
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            process.kill()
            await process.wait()
    if process.returncode:
        raise BundleError(said.decode().strip() or how_it_ended(candidate.model, process.returncode))
    wanted, there = int(said) * settings.workers, memory.available()
    if wanted > there:
        raise BundleError(
            f"{candidate.model} takes {int(said) / 1e6:,.0f} MB in each of {settings.workers} processes; "
            f"{there / 1e6:,.0f} MB are free"
        )


def _main(arguments: str) -> int:
    from service.inference.engine import Engine

    with contextlib.suppress(OSError):  # not Linux, or not allowed: then the kernel chooses
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_BE_KILLED)
    folder, threads, providers, max_batch_size = json.loads(arguments)
    try:
        before = _peak()
        Engine(bundle.read(Path(folder)), threads, providers).warm(max_batch_size)
    except KernelscopeError as error:
        print(error)
        return 1
    print(_peak() - before)
    return 0


def _peak() -> int:
    """The most memory that this process has had, in bytes.

    Not `ru_maxrss`, which a process takes over from the one that it was forked from.
    """
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) * 1024


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
