"""Labelled images in, a bundle out. Keras 3 throughout; TensorFlow itself only in `export`, and where it computes."""

import os

from contract.cpu import cores

# TensorFlow leaves oneDNN off where a processor has no VNNI, though a network like `fast` trains 1.7 times as fast
# with it there (docs/experiments/index.md). It reads this as it loads
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# TensorFlow and OpenMP count the machine's cores, not those of a container's quota: with more threads than cores a step
# waits for the slowest
_CORES = cores()
if (os.cpu_count() or 1) > _CORES:
    for _name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(_name, str(_CORES))
