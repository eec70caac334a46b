"""Labelled images in, a bundle out. Keras 3 throughout; TensorFlow itself only in `export`, and where it computes."""

import os

# TensorFlow leaves oneDNN off where a processor has no VNNI, though a network like `fast` trains 1.7 times as fast
# with it there (docs/results.md). It reads this as it loads
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
