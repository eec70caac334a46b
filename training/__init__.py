"""Labelled pictures in, a bundle out. Keras 3 throughout; TensorFlow itself is imported by `export` alone."""

import os

# TensorFlow leaves oneDNN off where a processor has no VNNI; there it makes a training step twice as fast. Read as
# TensorFlow loads
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
