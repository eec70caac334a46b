"""`kernelscope push` and `kernelscope pull`: models in an object store, and a models folder filled from there."""
