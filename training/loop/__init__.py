"""The training loop: steps, epochs, checkpoints, progress."""
