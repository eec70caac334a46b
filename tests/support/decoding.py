"""A decoder of its own for a test, and what it decodes for, where no model is loaded."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from contract import preprocessing
from contract.card import Card
from service.inference import memory_budget
from service.inference.decoder import Decoder
from service.observability.metrics import Metrics

BUDGET = 304 * 2**20


@dataclass(frozen=True)
class Target:
    card: Card
    metric_labels: tuple[str, str] = ("x", "1")


@dataclass
class Caller:
    deadline: float = math.inf
    pending: set[asyncio.Future[Any]] = field(default_factory=set)


@contextmanager
def decoder(*, threads: int = 1, budget: int = BUDGET, max_seconds: float = 10.0) -> Iterator[Decoder]:
    metrics = Metrics()
    held = np.zeros((1, len(memory_budget.SHARES)), np.int64)
    shares = memory_budget.shares(budget, held, 0, metrics)
    made = Decoder(
        metrics,
        shares["small_decodes"],
        shares["large_decodes"],
        threads=threads,
        max_pixels=preprocessing.MAX_PIXELS,
        max_seconds=max_seconds,
    )
    try:
        yield made
        assert not held.any()
    finally:
        made.close()
