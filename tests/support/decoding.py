"""What a decoder decodes for, where no model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from contract.card import Card


@dataclass(frozen=True)
class Target:
    card: Card
    metric_labels: tuple[str, str] = ("x", "1")
