"""`POST /explain`: one method's account of one answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from contract.network.errors import UnknownChannel
from contract.network.form import Form
from contract.network.graph import Floats
from contract.preprocessing import Pixels
from service.explanation import gradient_activation, integrated_gradients, methods, occlusion, render
from service.explanation.answers.reply import Part, as_json, as_png, number
from service.explanation.errors import InvalidOption
from service.explanation.heat_map import HeatMap, rounded
from service.explanation.question import Question
from service.explanation.subject import Subject
from service.explanation.tasks import Answer, Options, Task

_TOP: Final = 8
"""Channels that are listed unless a request says how many."""
_SUPPORTED: Final = 3
"""Classes that are named beside a channel."""


@dataclass(frozen=True)
class _Asked:
    """What a method is asked: a model, which of its forms, an image (1, H, W, 3), which answer, and options."""

    subject: Subject
    form: Form
    image: Pixels
    question: Question
    options: Options


def answer(task: Task, subject: Subject) -> Answer:
    """Explain why a class, or why not another."""
    start = time.perf_counter()
    options, image = task.options, task.pixels
    method = methods.find(options.method)
    methods.check_options(method, _given(options))
    refusal = methods.refusal(method, subject)
    if refusal:
        raise refusal
    logits, probabilities = subject.served.answers(image)
    question = _question(subject, options, probabilities[0])
    needs_gradient = method in ("integrated_gradients", "gradient_activation")
    form = subject.exact if needs_gradient else subject.served
    heat_map, part = _METHODS[method](_Asked(subject, form, image, question, options))
    if task.form == "png":
        png, scale = render.heat(heat_map, image[0], options.view)
        return as_png(png, {"Scale": f"{scale:.7g}"})
    own = logits if form is subject.served else form.answers(image)[0]

    def named(index: int) -> Part:
        return {
            "label": subject.card.labels[index],
            "index": index,
            "logit": number(logits[0, index]),
            "probability": number(probabilities[0, index]),
        }

    return as_json(
        task,
        method=method,
        **{"class": named(question.target)},
        against=None if question.against is None else named(question.against),
        score=number(own[0] @ question.weights(len(own[0]))),
        graph="served" if form is subject.served else "float32",
        dtype=form.dtype,
        logit_difference=number(np.abs(own - logits).max()),
        seconds=round(time.perf_counter() - start, 4),
        tells=methods.FACTS[method].tells,
        limits=methods.FACTS[method].limits,
        map=heat_map.describe(),
        **{method: part},
    )


def _by_contributions(asked: _Asked) -> tuple[HeatMap, Part]:
    head, options, question = asked.subject.head, asked.options, asked.question
    contributions = head.contributions(asked.image, question)
    rows, columns, channels = contributions.maps.shape
    off = list(options.without or ())
    for channel in off:
        if not 0 <= channel < channels:
            raise UnknownChannel(
                f"{contributions.layer} has no channel {channel}: its channels are 0 to {channels - 1}"
            )
    totals = contributions.by_channel
    count = channels if options.top == 0 else min(options.top or _TOP, channels)
    listed = np.abs(totals).argsort(kind="stable")[::-1][:count].tolist()
    support = head.support(contributions.maps, listed)
    logits, probabilities = head.without(contributions.maps, [[channel] for channel in listed] + ([off] if off else []))
    scores = logits @ question.weights(logits.shape[1])
    labels = asked.form.labels

    def changed(place: int) -> Part:
        best = int(probabilities[place].argmax())
        return {
            "score": number(scores[place]),
            "label": labels[best],
            "index": best,
            "probability": number(probabilities[place, question.target]),
        }

    def described(place: int, index: int) -> Part:
        maps = contributions.maps[:, :, index]
        row, column = divmod(int(maps.argmax()), columns)
        return {
            "channel": index,
            "value": number(totals[index]),
            "activation": number(maps[row, column]),
            "row": row,
            "column": column,
            "supports": [
                {"label": labels[best], "index": best, "value": number(support[place, best])}
                for best in support[place].argsort()[::-1][:_SUPPORTED].tolist()
            ],
            "without": changed(place),
        }

    others = np.delete(totals, listed)
    together = None
    if off:
        together = {"channels": off, **changed(len(listed)), "probabilities": rounded(probabilities[-1])}
    return contributions.heat_map(), {
        "layer": contributions.layer,
        "pooling": contributions.pooling,
        "shape": [rows, columns, channels],
        "bias": number(contributions.bias),
        "rounding": number(contributions.rounding),
        "sum": number(contributions.sum),
        "channels": [described(place, index) for place, index in enumerate(listed)],
        "others": {"count": len(others), "value": number(others.sum(dtype=np.float64))},
        "without": together,
    }


def _by_occlusion(asked: _Asked) -> tuple[HeatMap, Part]:
    options = asked.options
    fill = _choice("fill", options.fill or "grey", occlusion.FILLS)
    result = occlusion.explain(
        asked.form, asked.image, asked.question, fill=fill, patch=options.patch, stride=options.stride
    )
    return result.heat_map(), {
        "fill": result.fill,
        "patch": result.patch,
        "stride": result.stride,
        "passes": result.lost.size,
    }


def _by_integrated_gradients(asked: _Asked) -> tuple[HeatMap, Part]:
    start = _choice("baseline", asked.options.baseline or "blur", occlusion.FILLS)
    steps = asked.options.steps or integrated_gradients.STEPS
    result = integrated_gradients.explain(asked.form, asked.image, asked.question, start=start, steps=steps)
    return result.heat_map(), {
        "baseline": result.baseline,
        "steps": result.steps,
        "baseline_score": number(result.baseline_score),
        "sum": number(result.sum),
        "delta": number(result.delta),
    }


def _by_gradient_activation(asked: _Asked) -> tuple[HeatMap, Part]:
    form, name = asked.form, asked.options.layer
    layer = form.layers.find(name) if name else gradient_activation.usual_layer(form)
    result = gradient_activation.explain(form, asked.image, asked.question, layer)
    return result.heat_map(), {
        "layer": layer.id,
        "shape": layer.output,
        "sum": number(result.sum),
        "rest": number(result.score - result.sum),
    }


_METHODS: Final[dict[methods.Method, Callable[[_Asked], tuple[HeatMap, Part]]]] = {
    "contributions": _by_contributions,
    "occlusion": _by_occlusion,
    "integrated_gradients": _by_integrated_gradients,
    "gradient_activation": _by_gradient_activation,
}


def _question(subject: Subject, options: Options, probabilities: Floats) -> Question:
    target = int(probabilities.argmax()) if options.target is None else subject.index(options.target)
    against = None if options.against is None else subject.index(options.against)
    if against == target:
        raise InvalidOption(f"against is the class itself, {subject.card.labels[target]}: give another one")
    return Question(target, against)


def _given(options: Options) -> set[str]:
    own = {option for facts in methods.FACTS.values() for option in facts.options}
    return {name for name in own if getattr(options, name) is not None}


def _choice(option: str, value: str, among: tuple[Any, ...]) -> Any:
    if value not in among:
        raise InvalidOption(f"{option} is {value[:80]!r}: choose from {', '.join(among)}")
    return value
