"""A task -> its answer, as JSON, PNG or raw numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from service.explanation.answers import beside, explain, look
from service.explanation.subject import Subject
from service.explanation.tasks import Answer, Kind, Task

_ANSWERS: Final[dict[Kind, Callable[[Task, Subject], Answer]]] = {
    "explain": explain.answer,
    "activations": look.activations,
    "layers": look.layers,
    "kernels": look.kernels,
    "features": beside.features,
    "neighbours": beside.neighbours,
}


def answer(task: Task, subject: Subject) -> Answer:
    """Do a task.

    Raises:
        ExplanationError: it asks for what there is not, or for what cannot be done.
    """
    return _ANSWERS[task.kind](task, subject)
