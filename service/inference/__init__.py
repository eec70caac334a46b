"""Models in memory: load, decode, batch, run."""
