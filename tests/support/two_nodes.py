"""A real Ray cluster of two nodes on this machine: a head, and a node that may be killed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class TwoNodes:
    """A running cluster.

    Attributes:
        cluster: Ray's own.
        second: the node that is not the head.
        ports: of the proxies of the head and of the second node.
    """

    cluster: Any
    second: Any
    ports: tuple[int, int]

    @property
    def address(self) -> str:
        """By which commands find it."""
        return str(self.cluster.address)

    def kill(self) -> None:
        """End every process of the second node at once."""
        self.cluster.remove_node(self.second, allow_graceful=False)
