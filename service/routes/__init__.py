"""One module a group of calls; each has a `router`."""
