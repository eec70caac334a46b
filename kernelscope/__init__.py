"""Kernelscope trains image classifiers, serves them fast, and shows how they decide."""
