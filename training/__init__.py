"""Labelled pictures in, a bundle out. Keras 3 throughout; TensorFlow itself is imported by `export` alone."""
