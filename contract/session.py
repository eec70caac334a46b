"""An onnxruntime session of a bundle, opened in one way by training, evaluation and serving.

onnxruntime is imported when a session is opened, so that everything else in `contract` needs NumPy and Pillow alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from contract.bundle import PROBABILITIES, Bundle, check_graph
from contract.cpu import cores
from contract.errors import BundleError

if TYPE_CHECKING:
    import onnxruntime


def open_session(
    bundle: Bundle,
    *,
    threads: int = 0,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    spin_microseconds: int | None = None,
    outputs: Sequence[str] = (PROBABILITIES,),
    content: bytes | None = None,
) -> onnxruntime.InferenceSession:
    """Load a bundle's model and check that it takes and gives what its card says.

    Args:
        bundle: the bundle.
        threads: threads for one run; 0 for as many as there are cores, by this process's affinity and cgroup.
        providers: onnxruntime's execution providers, in order of preference.
        spin_microseconds: for which a thread without work spins before it sleeps; onnxruntime's choice where None. A
            server that also decodes images gives few or none: a spinning thread takes the core from decoding and from
            the event loop.
        outputs: the outputs that the caller needs.
        content: the model file's bytes, where the caller has read them; else they are read here.

    Returns:
        The session. Its `run` may be called from several threads, and releases the GIL.

    Raises:
        BundleError: the model does not load, or its inputs or outputs are not what the card says.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()  # left to itself, onnxruntime ignores a cgroup's limit
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if spin_microseconds is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin_microseconds > 0)))
    if spin_microseconds:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_microseconds))
    try:
        session = onnxruntime.InferenceSession(content or bundle.model, options, providers=list(providers))
    except Exception as error:  # onnxruntime's exceptions have no common base class but Exception
        raise BundleError(f"{bundle.model} does not load: {first_line(error)}") from None
    check_graph(bundle, session.get_inputs(), session.get_outputs(), required=outputs)
    return session


def first_line(error: Exception) -> str:
    """The first line of an error's message, of which onnxruntime's have many; its class where it has no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)
