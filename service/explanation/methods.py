"""Which methods explain a model, and what each can and cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from contract.network import gradient
from contract.network.errors import CannotExplain
from service.explanation.errors import InvalidOption, UnknownMethod
from service.explanation.subject import Subject

Method = Literal["contributions", "occlusion", "integrated_gradients", "gradient_activation"]

METHODS: Final[tuple[Method, ...]] = get_args(Method)


@dataclass(frozen=True)
class Facts:
    """What is said of a method.

    Attributes:
        tells: what it can tell.
        limits: what it cannot.
        options: the parameters that are its own.
    """

    tells: str
    limits: str
    options: frozenset[str]


FACTS: Final[dict[Method, Facts]] = {
    "contributions": Facts(
        "What each channel and each position of the last feature maps adds to the score; with the bias, all of it.",
        "A channel is no concept: it may respond to several things. A position of the last maps sees much of the "
        "image, often all of it, so that these say what was seen rather than where.",
        frozenset({"top", "without"}),
    ),
    "occlusion": Facts(
        "How much of the score is lost when a patch of the image is covered.",
        "It depends on what patches are covered with and on their size, and a covered image is unlike those that the "
        "model was trained on. Of two places that say the same, covering one may change nothing.",
        frozenset({"fill", "patch", "stride"}),
    ),
    "integrated_gradients": Facts(
        "What each pixel adds to the score on the straight way from a baseline to the image.",
        "It depends on the baseline, and says nothing where the image equals it. Pixels are noisy: look at areas.",
        frozenset({"baseline", "steps"}),
    ),
    "gradient_activation": Facts(
        "Where the values of a layer, times the slope of the score by them, speak for or against it.",
        "Exact at the last maps of a linear head, to first order below: how the score changes with small steps, not "
        "what would happen without a value.",
        frozenset({"layer"}),
    ),
}


def find(name: str) -> Method:
    """The method of that name. Raises `UnknownMethod`, which names those that there are."""
    for method in METHODS:
        if method == name:
            return method
    raise UnknownMethod(f"there is no method {name[:80]!r}: choose from {', '.join(METHODS)}")


def check_options(method: Method, given: set[str]) -> None:
    """Raise `InvalidOption` where an option is given that is another method's."""
    for option in sorted(given - FACTS[method].options):
        owners = [name for name, facts in FACTS.items() if option in facts.options]
        if owners:
            raise InvalidOption(f"{option} is an option of {', '.join(owners)}, not of {method}")


def obstacles(subject: Subject) -> dict[Method, str]:
    """Why methods cannot explain a model; those that can are left out."""
    reasons: dict[Method, str] = {}
    try:
        subject.head  # noqa: B018  # finding it is the question
    except CannotExplain as error:
        reasons["contributions"] = str(error)
    try:
        exact = subject.exact
        missing = gradient.unsupported(exact.graph, exact.score, exact.graph.input)
        reason = f"there is no gradient of {', '.join(missing)}" if missing else ""
    except CannotExplain as error:
        reason = str(error)
    if reason:
        reasons["integrated_gradients"] = reasons["gradient_activation"] = reason
    return reasons


def refusal(method: Method, subject: Subject) -> CannotExplain | None:
    """What to raise where a method cannot explain a model: it says why, and which methods can."""
    against = obstacles(subject)
    if method not in against:
        return None
    can = ", ".join(name for name in METHODS if name not in against)
    return CannotExplain(f"{method} cannot explain this model: {against[method]}; use {can}")
