"""A model in memory: an onnxruntime session with its threads, its warm-up and its run."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from contract import bundle
from contract.errors import BundleError, UsageError
from contract.preprocessing import Pixels
from contract.session import first_line, open_session
from service.inference.idle_cores import IdleCores

PROVIDERS: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""What onnxruntime computes on, by the names that the settings use."""


def providers(names: str) -> list[str]:
    """onnxruntime's names of providers, from ours with commas between; the CPU is added as the last.

    Raises:
        UsageError: an unknown name, or one that the installed onnxruntime does not have.
    """
    there = onnxruntime.get_available_providers()
    chosen = []
    for name in [word.strip() for word in f"{names},cpu".split(",") if word.strip()]:
        if name not in PROVIDERS:
            raise UsageError(f"there is no provider {name!r}: choose from {', '.join(PROVIDERS)}")
        if PROVIDERS[name] not in there:
            have = ", ".join(ours for ours, theirs in PROVIDERS.items() if theirs in there)
            raise UsageError(
                f"provider {name!r} is not in the onnxruntime that is installed (it has {have}): "
                "install its build for that hardware, or leave it out"
            )
        chosen.append(PROVIDERS[name])
    return list(dict.fromkeys(chosen))


_MEASURE_SECONDS: Final = 0.01
_SPIN_MICROSECONDS: Final = 20
"""Between two parts of a run on several threads: to fall asleep and to be woken would take longer."""
_LARGEST_TWICE: Final = 32 * 2**20
"""Bytes of a model that is kept in memory twice, in a second session for lone requests."""


class Engine:
    """Runs one bundle's model.

    A model with fewer threads than there are cores, because other processes run it as well, has a second session for
    lone images: on all cores, while the other processes run nothing. It is kept where it is faster.

    Attributes:
        bundle: the bundle.
        digest: SHA-256 of the model file and the card that were loaded.
        seconds: that a run on one image takes, as `warm` has measured it; infinity before that.

    Args:
        source: the bundle.
        threads: onnxruntime's threads for one run; 0 for as many as there are cores.
        on: what to compute on, in order of preference; see `providers`.
        lone_threads: threads for a run on one image while no other process runs a model; no more than `threads` for no
            such runs.
        others: what the other processes do; they are taken for idle where None.
        is_alone: whether the request that is answered is the only one of this process: others may be decoded meanwhile.

    Raises:
        BundleError: the model does not load, or takes or gives something else than its card says.
        UsageError: as `providers` does.
    """

    def __init__(
        self,
        source: bundle.Bundle,
        threads: int = 0,
        on: str = "cpu",
        *,
        lone_threads: int = 0,
        others: IdleCores | None = None,
        is_alone: Callable[[], bool] = lambda: True,
    ) -> None:
        self.bundle, self.seconds = source, math.inf
        self._run_options: onnxruntime.RunOptions | None = None  # of the run under way
        wanted = providers(on)
        try:
            content = (
                source.model.read_bytes()
            )  # what is hashed is what is loaded, whatever happens to the file meanwhile
        except OSError as error:
            raise BundleError(f"{source.model} cannot be read: {error.strerror}") from None
        self._others, self._is_alone = others or IdleCores(np.zeros(1), 0), is_alone
        # a thread that spins for its next piece of work takes the core from decoding and from the event loop
        self._session = open_session(source, threads=threads, providers=wanted, spin_microseconds=0, content=content)
        self._lone: onnxruntime.InferenceSession | None = None
        if 0 < threads < lone_threads and len(wanted) == 1 and len(content) <= _LARGEST_TWICE:
            self._lone = open_session(
                source, threads=lone_threads, spin_microseconds=_SPIN_MICROSECONDS, content=content
            )
        self.digest = hashlib.sha256(content + source.card.to_json().encode()).hexdigest()

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Calibrated probabilities, float32 (N, classes), of images, uint8 (N, H, W, 3). Releases the GIL.

        One run at a time: `terminate` ends the one under way.
        """
        lone = self._lone if len(images) == 1 and self._is_alone() and self._others.are_idle() else None
        self._others.begin()
        try:
            return self._run(lone or self._session, images)
        finally:
            self._others.end()

    def _run(self, session: onnxruntime.InferenceSession, images: Pixels) -> npt.NDArray[np.float32]:
        self._run_options = options = onnxruntime.RunOptions()
        try:
            (probabilities,) = session.run([bundle.PROBABILITIES], {bundle.INPUT: images}, options)
        finally:
            self._run_options = None
        return np.asarray(probabilities, np.float32)

    def terminate(self) -> None:
        """Let the run under way, if there is one, fail before its next node; called on another thread than `run`."""
        options = self._run_options
        if options is not None:
            options.terminate = True

    def warm(self, max_batch_size: int) -> None:
        """Run grey images at batch sizes of 1, 2, 4 ... and the largest, so that no request pays for a first time.

        What is measured is a run on the session's own threads.

        Raises:
            BundleError: the model fails, or answers with what are no probabilities.
        """
        card = self.bundle.card
        for size in {*(2**i for i in range(max_batch_size.bit_length())), max_batch_size}:
            grey = np.full((size, card.height, card.width, 3), 127, np.uint8)
            try:
                answer = self._run(self._session, grey)
            except Exception as error:  # as above
                raise BundleError(f"{self.bundle.model} fails to run: {first_line(error)}") from None
            if answer.shape != (size, len(card.labels)) or not np.allclose(answer.sum(1), 1, atol=1e-3):
                raise BundleError(f"{self.bundle.model} answers {answer.shape}, not one probability a label")
        image = np.full((1, card.height, card.width, 3), 127, np.uint8)
        self.seconds = self._measured(self._session, image)
        if self._lone and self._measured(self._lone, image) > self.seconds:
            self._lone = None

    def _measured(self, session: onnxruntime.InferenceSession, image: Pixels) -> float:
        """Seconds of a run, the shortest of some: a machine that is busy with other things makes any of them longer."""
        shortest, end = math.inf, time.perf_counter() + _MEASURE_SECONDS
        while shortest is math.inf or time.perf_counter() < end:
            start = time.perf_counter()
            self._run(session, image)
            shortest = min(shortest, time.perf_counter() - start)
        return shortest
