"""The report on a model: its card as a page of Markdown, and a page of HTML with plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from string import Template
from typing import Any, Final

import numpy as np
from PIL import Image

from contract.bundle import README, Bundle
from contract.card import Accuracy, Backbone, Card, Corruptions, Cost, Data, Layer, Original, Training
from contract.preprocessing import Pixels
from training.evaluation.calibrate import reliability, softmax
from training.evaluation.evaluate import Evaluation
from training.export.markdown import code, text
from training.loop.progress import Row

FOLDER: Final = "report"
PAGE: Final = "report.html"
MISTAKES: Final = "mistakes"
"""The folder beside the page with the most confident mistakes, each as an image: 1.png, 2.png, ..."""
_LOOKED_INTO: Final = 8
_MOST_NAMES: Final = 30
_UNEVEN: Final = 1.5
"""Classes are uneven if one has more than so many times the images of another."""


def write(bundle: Bundle, score: Evaluation, images: Pixels, history: Sequence[Row]) -> None:
    """Write `README.md` into a bundle's folder, and `report/report.html` with its plots.

    Args:
        bundle: a staged bundle whose card has accuracy and cost.
        score: the evaluation that the card's accuracy is from.
        images: the images of that evaluation, uint8 (N, H, W, 3).
        history: the epochs of the training; empty for an int8 form.
    """
    from training.export import plots  # imported here: the page in Markdown needs no matplotlib

    folder, card = bundle.folder, bundle.card
    (folder / README).write_text(markdown(card), encoding="utf-8")
    plots_by_name = {
        "curves": plots.curves(history) if history else None,
        "reliability": plots.reliability(
            reliability(softmax(score.logits), score.targets), reliability(score.probabilities, score.targets)
        ),
        "confusion": plots.confusion(score.confusion, card.labels),
        "mistakes": plots.mistakes(score, images, card.labels),
    }
    (folder / FOLDER).mkdir()
    drawn = {name: plot for name, plot in plots_by_name.items() if plot}
    for name, plot in drawn.items():
        (folder / FOLDER / f"{name}.png").write_bytes(plot)
    worst = plots.worst_mistakes(score, _LOOKED_INTO)
    if worst:
        (folder / FOLDER / MISTAKES).mkdir()
    for place, index in enumerate(worst, 1):
        Image.fromarray(np.asarray(images[index])).save(folder / FOLDER / MISTAKES / f"{place}.png")
    page = html(card, score, list(drawn))
    (folder / FOLDER / PAGE).write_text(page, encoding="utf-8")


def html(card: Card, score: Evaluation, drawn: list[str]) -> str:
    """Return the page.

    Args:
        card: the model's card, with accuracy and cost.
        score: the evaluation that the accuracy is from.
        drawn: the names of the plots in the page's folder.
    """
    low, high = score.interval
    cost = card.cost
    tiles = (
        (f"{score.accuracy:.2%}", f"accuracy on {score.images:,} {score.split} images ({low:.2%} to {high:.2%})"),
        (f"{score.calibration_error:.2%}", f"calibration error, {score.uncalibrated_error:.2%} uncalibrated"),
        (f"{cost.latency_ms} ms", f"an image on one thread, {cost.dtype}"),
        (
            f"{(cost.bytes or 0) / 1e6:.1f} MB",
            f"{cost.parameters / 1e6:.2f} million parameters" if cost.parameters is not None else "",
        ),
    )
    sections = [
        ("Training curves", _image("curves"), "curves" in drawn),
        ("Calibration", _image("reliability") + _paragraphs(_rejection(card)), True),
        ("Confusion matrix", _image("confusion") + _paragraphs(_uneven(card)), True),
        ("Per class", _per_class(card.labels, score), True),
        ("Corrupted images", _corrupted(card), card.accuracy.corruptions is not None),
        ("Most confident mistakes", _image("mistakes") + _inside(card, score), "mistakes" in drawn),
        ("Layers", _layers(cost.layers), bool(cost.layers)),
        ("Provenance", _table(("", ""), _facts(card.data, card.training, cost), "facts"), True),
    ]
    return _PAGE.substitute(
        title=escape(card.name),
        chance=_paragraphs([chance(card.accuracy, len(card.labels))]),
        summary=escape(
            f"Sorts images of {card.width}×{card.height} pixels into {len(card.labels)} classes. {_made(card)}"
        ),
        tiles="".join(f"<div><b>{escape(big)}</b>{escape(small)}</div>" for big, small in tiles),
        sections="".join(f"<h2>{escape(title)}</h2>{body}" for title, body, shown in sections if shown),
    )


def _image(name: str) -> str:
    return f'<img src="{name}.png" alt="{name}">'


def _inside(card: Card, score: Evaluation) -> str:
    """How to look into the most confident mistakes: each as an image, and the command that explains one."""
    from training.export import plots

    figures = []
    for place, index in enumerate(plots.worst_mistakes(score, _LOOKED_INTO), 1):
        shown, predicted = card.labels[score.targets[index]], card.labels[score.probabilities[index].argmax()]
        name, words = f"{MISTAKES}/{place}.png", escape(f"{shown}, predicted as {predicted}")
        figures.append(f'<a href="{name}"><img src="{name}" alt="{words}" title="{words}"></a>')
    command = f"kernelscope look {MISTAKES}/1.png --models ../../.. --model {card.name}"
    return (
        f"<p>Why? In this folder, <code>{escape(command)}</code> writes a page that shows what the answer rests on, "
        f'layer by layer. These are {MISTAKES}/1.png to {len(figures)}.png:</p><p class="own">{"".join(figures)}</p>'
    )


def _paragraphs(lines: list[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines if line)


def _per_class(labels: tuple[str, ...], score: Evaluation) -> str:
    matrix = score.confusion
    of_class, predicted, correct = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    rows = [
        (
            label,
            f"{of_class[i]:,}",
            f"{correct[i] / of_class[i]:.1%}" if of_class[i] else "no images",
            f"{correct[i] / predicted[i]:.1%}" if predicted[i] else "never predicted",
        )
        for i, label in enumerate(labels)
    ]
    return _table(("class", "images", "recall", "precision"), rows)


def _corrupted(card: Card) -> str:
    corruptions = card.accuracy.corruptions
    if corruptions is None:
        return ""
    rows = [(kind, f"{accuracy:.1%}") for kind, accuracy in corruptions.accuracy.items()]
    return _paragraphs([_corruption_note(corruptions)]) + _table(("images", "accuracy"), rows)


def _corruption_note(corruptions: Corruptions) -> str:
    return (
        f"The same {corruptions.images:,} images of the {corruptions.split} split, clean and corrupted: JPEG of "
        "quality 75 and 50, and Gaussian blur, Gaussian noise and brightness of severity 3 of 5 (Hendrycks and "
        "Dietterich 2019, arXiv:1903.12261)."
    )


def chance(accuracy: Accuracy, classes: int) -> str:
    """Return a warning about a model that is not significantly better than guessing; empty for any other model."""
    if accuracy.above_chance is not False:
        return ""
    return (
        f"No better than chance: guessing among {classes} classes is right in {1 / classes:.1%}, and a balanced "
        f"accuracy of {accuracy.balanced_accuracy:.1%} on {accuracy.images:,} images is not significantly higher."
    )


def _layers(layers: tuple[Layer, ...]) -> str:
    rows = []
    for layer in layers:
        window = f"{layer.kernel}×{layer.kernel}" if layer.kernel else ""
        height, width, channels = layer.output
        rows.append(
            (
                layer.name,
                layer.kind,
                window,
                str(layer.stride) if layer.kernel else "",
                f"{layer.padding:g}" if layer.kernel else "",
                f"{height}×{width}×{channels}",
                str(layer.receptive_field),
                f"{layer.parameters:,}",
                f"{layer.multiply_adds:,}",
            )
        )
    sizes = ("output", "receptive field", "parameters", "multiply-adds")
    head = ("layer", "kind", "kernel k", "stride s", "padding p", *sizes)
    return (
        "<p>A window that slides over m pixels has an output of (m + 2p - k)/s + 1. The receptive field is the side, "
        "in pixels of the image, of what one value depends on. The parameters of a normalisation are counted with the "
        "layer before it.</p>" + _table(head, rows)
    )


def _table(head: tuple[str, ...], rows: list[Any], kind: str = "figures") -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head) if any(head) else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }
.tiles div { border: 1px solid #8884; border-radius: .5rem; padding: .8rem 1rem; font-size: .85rem; }
.tiles b { display: block; font-size: 1.7rem; }
img { max-width: 100%; background: white; border-radius: .5rem; }
.own img { width: 4.5rem; image-rendering: pixelated; margin-right: .4rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #8883; vertical-align: top; }
.figures td:not(:first-child) { font-variant-numeric: tabular-nums; }
.figures td:first-child { max-width: 24rem; overflow-wrap: anywhere; }
.facts td:first-child { white-space: nowrap; } .facts td { overflow-wrap: anywhere; }
</style></head><body>
<h1>$title</h1><p>$summary</p>$chance<div class="tiles">$tiles</div>
$sections
</body></html>
""")


def markdown(card: Card) -> str:
    """Return the card as Markdown, ending in a line feed."""
    accuracy, training, data, cost = card.accuracy, card.training, card.data, card.cost
    lines = [
        f"# {card.name}",
        "",
        f"Classifies images of {card.width}×{card.height} pixels into {len(card.labels)} classes: "
        f"{text(', '.join(card.labels[:_MOST_NAMES]))}{' ...' if len(card.labels) > _MOST_NAMES else '.'}",
        f"An image of another shape: {_RESIZING[card.resize_mode]}; shrinking is antialiased (bicubic).",
        "",
        *_score(card),
        "",
        *_uneven(card),
        *([f"**{warning}**", ""] if (warning := chance(accuracy, len(card.labels))) else []),
        *_rejection(card),
        *_recalls(accuracy),
        *_corrupted_lines(card),
        "| | |",
        "|---|---|",
        *(f"| {key} | {text(value)} |" for key, value in _facts(data, training, cost)),
        "",
        f"{_made(card, code)}.",
    ]
    return "\n".join(lines) + "\n"


def _score(card: Card) -> list[str]:
    accuracy = card.accuracy
    if accuracy.accuracy is None:
        return ["It was not scored on labelled images: `kernelscope evaluate` does that."]
    low, high = accuracy.interval or (0.0, 1.0)
    smoothing = f"the label smoothing of {card.label_smoothing:g} was taken back and " if card.label_smoothing else ""
    return [
        f"**{accuracy.accuracy:.2%}** of the {accuracy.images:,} images of the {accuracy.split} split are "
        f"classified correctly (95 % interval {low:.2%} to {high:.2%}). The expected calibration error over 15 bins is "
        f"{accuracy.calibration_error:.2%} ({accuracy.uncalibrated_error:.2%} before {smoothing}the logits were "
        f"divided by the temperature of {card.temperature:g})."
    ]


def _recalls(accuracy: Accuracy) -> list[str]:
    rows = [f"| {text(label)} | {recall:.1%} |" for label, recall in accuracy.per_class.items()]
    return ["| class | recall |", "|---|---|", *rows, ""] if rows else []


def _corrupted_lines(card: Card) -> list[str]:
    corruptions = card.accuracy.corruptions
    if corruptions is None:
        return []
    rows = [f"| {kind} | {accuracy:.1%} |" for kind, accuracy in corruptions.accuracy.items()]
    return [_corruption_note(corruptions), "", "| images | accuracy |", "|---|---|", *rows, ""]


def _uneven(card: Card) -> list[str]:
    """What accuracy hides if some classes have more images than others; nothing if they do not."""
    accuracy = card.accuracy
    images = [sum(row) for row in accuracy.confusion]
    is_uneven = bool(card.training.class_weights) or max(images, default=0) > _UNEVEN * min(images, default=0)
    if not is_uneven or accuracy.balanced_accuracy is None or accuracy.macro_f1 is None:
        return []
    return [
        f"The classes have uneven numbers of images. Balanced accuracy, the mean recall over the classes, is "
        f"{accuracy.balanced_accuracy:.2%}; macro F1, the mean F1 score over the classes, is {accuracy.macro_f1:.2%}.",
        "",
    ]


def _rejection(card: Card) -> list[str]:
    unsure = card.accuracy.unsure
    if not unsure:
        return []
    ood = ", ".join(f"{share:.0%} of {kind}" for kind, share in unsure.unknown.items())
    return [
        f"An answer whose probability is below {card.unsure_below:g} is called unsure. That rejects {unsure.right:.1%} "
        f"of the validation images that are classified correctly, {unsure.wrong:.0%} of those that are misclassified, "
        f"and of out-of-distribution images {ood}.",
        "",
    ]


_RESIZING: Final = {
    "crop": "the shorter side is brought to size and the centre is cut out",
    "squash": "both sides are brought to size, whatever that does to its proportions",
    "letterbox": "the longer side is brought to size and black bars fill the rest",
}


def _made(card: Card, quote: Callable[[str], str] = str) -> str:
    """When the model was made, and the last command that made it."""
    training = card.training
    command = training.quantised_by or training.interpolated_by or training.command or ""
    return f"Made {(card.created or '')[:10]} by {quote(command)}"


def _backbone(backbone: Backbone | None) -> list[tuple[str, str, tuple[Backbone, tuple[str, ...]]]]:
    if backbone is None:
        return []
    change = "then fine-tuned" if backbone.is_tuned else "unchanged but for the last layer"
    return [
        ("pre-trained network", f"{{name}} ({{source}}), {change}", (backbone, ("name", "source"))),
        ("pre-trained weights", "{package}, {licence}, {checksum}", (backbone, ("package", "licence", "checksum"))),
        (
            "linear head on frozen features",
            "{frozen_accuracy:.2%} cross-validated accuracy on training and validation images",
            (backbone, ("frozen_accuracy",)),
        ),
    ]


def _original(original: Original | None) -> list[tuple[str, str, tuple[Original, tuple[str, ...]]]]:
    if original is None:
        return []
    return [
        ("imported from", "{file}, {checksum}", (original, ("file", "checksum"))),
        ("written by", "{producer}, opset {opset}", (original, ("producer", "opset"))),
        ("takes", "{input}", (original, ("input",))),
        ("gives", "{output}", (original, ("output",))),
        ("several images", "{batching}", (original, ("batching",))),
    ]


def _commands(training: Training) -> list[tuple[str, str, tuple[Training, tuple[str, ...]]]]:
    """The commands before the last one, which stands at the end of the page."""
    rows: list[tuple[str, str, tuple[Training, tuple[str, ...]]]] = []
    if training.interpolated_by or training.quantised_by:
        rows.append(("trained by", "{command}", (training, ("command",))))
    if training.interpolated_by and training.quantised_by:
        rows.append(("interpolated by", "{interpolated_by}", (training, ("interpolated_by",))))
    return rows


def _facts(data: Data, training: Training, cost: Cost) -> list[tuple[str, str]]:
    """Rows of titles and facts: provenance and cost. What the card does not have is left out."""
    versions = ", ".join(f"{name} {version}" for name, version in training.versions.items())
    where = "one thread" + (f" of {cost.hardware}" if cost.hardware else "")
    rows: list[tuple[str, str, tuple[Data | Training | Cost | Backbone | Original, tuple[str, ...]]]] = [
        ("data", "{name}, {checksum}", (data, ("name", "checksum"))),
        (
            "images",
            "{train:,} for training, {validation:,} for validation and calibration, {test:,} for testing, "
            "{skipped:,} skipped",
            (data, ("train", "validation", "test", "skipped")),
        ),
        ("recipe", "{recipe}, seed {seed}, batches of {batch_size}", (training, ("recipe", "seed", "batch_size"))),
        *_backbone(training.backbone),
        *_original(training.original),
        ("distilled from", "{teacher}", (training, ("teacher",))),
        ("started from", "{initial}", (training, ("initial",))),
        (
            "interpolated",
            "{interpolated_share:.0%} of the training's weights, the rest from before it",
            (training, ("interpolated_share",)),
        ),
        ("training", "{epochs} epochs, {seconds:,.0f} s, {precision}", (training, ("epochs", "seconds", "precision"))),
        *_commands(training),
        ("trained on", "{hardware}", (training, ("hardware",))),
        ("commit", "{commit}", (training, ("commit",))),
        ("parameters", "{parameters:,}", (cost, ("parameters",))),
        ("multiply-adds an image", "{multiply_adds:,}", (cost, ("multiply_adds",))),
        ("model", "{bytes:,} bytes, {dtype}", (cost, ("bytes", "dtype"))),
        ("latency", f"{{latency_ms}} ms an image, {where}", (cost, ("latency_ms",))),
        (
            "throughput",
            "{images_per_second:,} images a second in batches of 64, on all cores",
            (cost, ("images_per_second",)),
        ),
        ("compared with float32", "{speed_over_float32} times as fast", (cost, ("speed_over_float32",))),
        (
            "same class as float32",
            "{agreement_with_float32:.2%} of validation and training images",
            (cost, ("agreement_with_float32",)),
        ),
        ("original and bundle", "differ by {parity:.0e} in probability at most", (cost, ("parity",))),
    ]
    known = [
        (title, pattern.format_map(vars(part)))
        for title, pattern, (part, needed) in rows
        if all(getattr(part, name) is not None for name in needed)
    ]
    return [*known, *([("versions", versions)] if versions else [])]
