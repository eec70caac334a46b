"""A model in memory: an onnxruntime session with its threads, its warm-up and its run."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from contract import bundle
from contract.cpu import cores
from contract.errors import BundleError, UsageError
from contract.preprocessing import Pixels

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


class Engine:
    """Runs one bundle's model.

    Args:
        of: the bundle.
        threads: onnxruntime's threads for one run; 0 for as many as there are cores.
        on: what to compute on, in order of preference; see `providers`.

    Raises:
        BundleError: the model does not load, or takes or gives something else than its card says.
        UsageError: as `providers` does.
    """

    def __init__(self, of: bundle.Bundle, threads: int = 0, on: str = "cpu") -> None:
        self.bundle = of
        wanted = providers(on)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.inter_op_num_threads = 1
        # a thread that spins for its next piece of work takes the core from decoding and from the event loop
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(of.model, options, providers=wanted)
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise BundleError(f"{of.model} does not load: {str(error).splitlines()[0]}") from None
        bundle.check_graph(of, self._session.get_inputs(), self._session.get_outputs())

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Calibrated probabilities, float32 (N, classes), of images, uint8 (N, H, W, 3). Releases the GIL."""
        (probabilities,) = self._session.run([bundle.PROBABILITIES], {bundle.INPUT: images})
        return np.asarray(probabilities, np.float32)

    def warm(self, max_batch_size: int) -> None:
        """Run grey images at batch sizes of 1, 2, 4 ... and the largest, so that no request pays for a first time.

        Raises:
            BundleError: the model fails, or answers with what are no probabilities.
        """
        card = self.bundle.card
        for size in {*(2**i for i in range(max_batch_size.bit_length())), max_batch_size}:
            grey = np.full((size, card.height, card.width, 3), 127, np.uint8)
            try:
                answer = self.run(grey)
            except Exception as error:  # as above
                raise BundleError(f"{self.bundle.model} fails to run: {str(error).splitlines()[0]}") from None
            if answer.shape != (size, len(card.labels)) or not np.allclose(answer.sum(1), 1, atol=1e-3):
                raise BundleError(f"{self.bundle.model} answers {answer.shape}, not one probability a label")
