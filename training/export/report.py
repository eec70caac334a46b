"""What is told of a run: the card as a page of Markdown, and a page of HTML with plots beside it."""

from __future__ import annotations

from html import escape
from string import Template
from typing import Any, Final

import numpy as np

from contract import bundle
from contract.card import Accuracy, Card, Corruptions, Cost, Data, Layer, Training
from contract.preprocessing import Pixels
from training.evaluation.calibrate import reliability, softmax
from training.evaluation.evaluate import Evaluation
from training.export import plots
from training.loop.progress import Row

FOLDER: Final = "report"
PAGE: Final = "report.html"
_MOST_NAMES: Final = 30


def write(of: bundle.Bundle, score: Evaluation, images: Pixels, history: list[Row]) -> None:
    """Write `README.md` into a bundle's folder, and `report/report.html` with its plots.

    Args:
        of: the bundle, staged; its card has accuracy and cost.
        score: on the images that the card's accuracy is from.
        images: those, uint8 (N, H, W, 3).
        history: the run's epochs; none where there was no run, as for an int8 form.
    """
    folder, card = of.folder, of.card
    (folder / bundle.README).write_text(markdown(card), encoding="utf-8")
    drawn = {
        "curves": plots.curves(history) if history else None,
        "reliability": plots.reliability(
            reliability(softmax(score.logits), score.targets), reliability(score.probabilities, score.targets)
        ),
        "confusion": plots.confusion(score.confusion, card.labels),
        "mistakes": plots.mistakes(score, images, card.labels),
    }
    (folder / FOLDER).mkdir()
    for name, image in drawn.items():
        if image:
            (folder / FOLDER / f"{name}.png").write_bytes(image)
    page = html(card, score, [name for name, image in drawn.items() if image])
    (folder / FOLDER / PAGE).write_text(page, encoding="utf-8")


def html(card: Card, score: Evaluation, images: list[str]) -> str:
    """The page; `images` names the plots that stand beside it."""
    low, high = score.interval
    cost = card.cost
    tiles = (
        (f"{score.accuracy:.2%}", f"of {score.images:,} {score.split} images right ({low:.2%} to {high:.2%})"),
        (f"{score.calibration_error:.2%}", f"calibration error, {score.uncalibrated_error:.2%} before the temperature"),
        (f"{cost.latency_ms} ms", f"an image on one thread, {cost.dtype}"),
        (
            f"{(cost.bytes or 0) / 1e6:.1f} MB",
            f"{cost.parameters / 1e6:.2f} million parameters" if cost.parameters is not None else "",
        ),
    )
    sections = [
        ("Epoch by epoch", _image("curves"), "curves" in images),
        ("Does it know how sure it is?", _image("reliability") + _paragraphs(_doubt(card)), True),
        ("What it takes for what", _image("confusion"), True),
        ("Class by class", _per_class(card.labels, score), True),
        ("On corrupted images", _corrupted(card), card.accuracy.corruptions is not None),
        ("The worst mistakes", _image("mistakes"), "mistakes" in images),
        ("Layer by layer", _layers(cost.layers), bool(cost.layers)),
        ("Where it comes from", _table(("", ""), _facts(card.data, card.training, cost), "facts"), True),
    ]
    return _PAGE.substitute(
        title=escape(card.name),
        chance=_paragraphs([chance(card.accuracy, len(card.labels))]),
        summary=escape(
            f"Sorts images of {card.width}×{card.height} pixels into {len(card.labels)} classes. {_made(card)}"
        ),
        tiles="".join(f"<div><b>{escape(big)}</b>{escape(small)}</div>" for big, small in tiles),
        sections="".join(f"<h2>{escape(title)}</h2>{body}" for title, body, there in sections if there),
    )


def _image(name: str) -> str:
    return f'<img src="{name}.png" alt="{name}">'


def _paragraphs(lines: list[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines if line)


def _per_class(labels: tuple[str, ...], score: Evaluation) -> str:
    matrix = score.confusion
    of_class, answered, right = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    rows = [
        (
            label,
            f"{of_class[i]:,}",
            f"{right[i] / of_class[i]:.1%}" if of_class[i] else "no images",
            f"{right[i] / answered[i]:.1%}" if answered[i] else "never answered",
        )
        for i, label in enumerate(labels)
    ]
    return _table(("class", "images", "of them answered right (recall)", "of its answers right (precision)"), rows)


def _corrupted(card: Card) -> str:
    found = card.accuracy.corruptions
    if found is None:
        return ""
    rows = [(kind, f"{accuracy:.1%}") for kind, accuracy in found.accuracy.items()]
    return _paragraphs([_corruption_note(found)]) + _table(("images", "answered right"), rows)


def _corruption_note(found: Corruptions) -> str:
    return (
        f"The same {found.images:,} images of the {found.split} split, clean and corrupted: JPEG of quality 75 and 50, "
        "and Gaussian blur, Gaussian noise and brightness of severity 3 of 5 (Hendrycks and Dietterich 2019, "
        "arXiv:1903.12261)."
    )


def chance(accuracy: Accuracy, classes: int) -> str:
    """A sentence on a model that cannot be told from guessing; empty for any other."""
    if accuracy.above_chance is not False:
        return ""
    return (
        f"No better than chance: guessing among {classes} classes is right in {1 / classes:.1%}, and a balanced "
        f"accuracy of {accuracy.balanced_accuracy:.1%} on {accuracy.images:,} images cannot be told from that."
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
    head = ("layer", "kind", "kernel k", "stride s", "padding p", "output", "sees", "parameters", "multiply-adds")
    return (
        "<p>A window that slides over m pixels leaves (m + 2p - k)/s + 1; <i>sees</i> is the receptive field, the side "
        "in pixels of what one value depends on; a normalisation counts with the layer before it.</p>"
        + _table(head, rows)
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
.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #8883; vertical-align: top; }
.figures td:not(:first-child) { font-variant-numeric: tabular-nums; }
.facts td:first-child { white-space: nowrap; } .facts td { overflow-wrap: anywhere; }
</style></head><body>
<h1>$title</h1><p>$summary</p>$chance<div class="tiles">$tiles</div>
$sections
</body></html>
""")


def markdown(card: Card) -> str:
    """The card as Markdown, ending in a line feed."""
    accuracy, training, data, cost = card.accuracy, card.training, card.data, card.cost
    low, high = accuracy.interval or (0.0, 1.0)
    lines = [
        f"# {card.name}",
        "",
        f"Sorts images of {card.width}×{card.height} pixels into {len(card.labels)} classes: "
        f"{', '.join(card.labels[:_MOST_NAMES])}{' ...' if len(card.labels) > _MOST_NAMES else '.'}",
        f"An image of another shape: {_FITS[card.resize_mode]}; shrinking is antialiased (bicubic).",
        "",
        f"**{accuracy.accuracy:.2%}** of the {accuracy.images:,} images of the {accuracy.split} split are "
        f"answered right (95 % interval {low:.2%} to {high:.2%}); the expected calibration error over 15 bins is "
        f"{accuracy.calibration_error:.2%} (before the temperature of {card.temperature}: "
        f"{accuracy.uncalibrated_error:.2%}).",
        "",
        *([f"**{warning}**", ""] if (warning := chance(accuracy, len(card.labels))) else []),
        *_doubt(card),
        "| class | answered right |",
        "|---|---|",
        *(f"| {label} | {share:.1%} |" for label, share in accuracy.per_class.items()),
        "",
        *_corrupted_lines(card),
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in _facts(data, training, cost)),
        "",
        f"{_made(card, '`')}.",
    ]
    return "\n".join(lines) + "\n"


def _corrupted_lines(card: Card) -> list[str]:
    found = card.accuracy.corruptions
    if found is None:
        return []
    rows = [f"| {kind} | {accuracy:.1%} |" for kind, accuracy in found.accuracy.items()]
    return [_corruption_note(found), "", "| images | answered right |", "|---|---|", *rows, ""]


def _doubt(card: Card) -> list[str]:
    found = card.accuracy.unsure
    if not found:
        return []
    unknown = ", ".join(f"{share:.0%} of {kind}" for kind, share in found.unknown.items())
    return [
        f"An answer of a probability below {card.unsure_below:g} is called unsure: {found.right:.1%} of the "
        f"held-out images that it answers right, {found.wrong:.0%} of those that it answers wrong, and of "
        f"images of nothing it knows {unknown}.",
        "",
    ]


_FITS = {
    "crop": "the shorter side is brought to size and the centre is cut out",
    "squash": "both sides are brought to size, whatever that does to its proportions",
    "letterbox": "the longer side is brought to size and black bars fill the rest",
}


def _made(card: Card, quote: str = "") -> str:
    """The day, and the last command that was run on the model."""
    command = card.training.quantised_by or card.training.command or ""
    return f"Made {(card.created or '')[:10]} by {quote}{command}{quote}"


def _facts(data: Data, training: Training, cost: Cost) -> list[tuple[str, str]]:
    """What a card says of where a model comes from and what it costs; a card need not say all of it."""
    versions = ", ".join(f"{name} {version}" for name, version in training.versions.items())
    where = "one thread" + (f" of {cost.hardware}" if cost.hardware else "")
    rows: list[tuple[str, str, tuple[Data | Training | Cost, tuple[str, ...]]]] = [
        ("data", "{name}, {checksum}", (data, ("name", "checksum"))),
        (
            "images",
            "{train:,} to train, {validation:,} held out for choices and the temperature, {test:,} to test, "
            "{skipped:,} skipped",
            (data, ("train", "validation", "test", "skipped")),
        ),
        ("recipe", "{recipe}, seed {seed}, batches of {batch_size}", (training, ("recipe", "seed", "batch_size"))),
        ("teacher", "{teacher}", (training, ("teacher",))),
        ("training", "{epochs} epochs, {seconds:,.0f} s, {precision}", (training, ("epochs", "seconds", "precision"))),
        ("trained by", "{command}", (training, ("command", "quantised_by"))),  # else it stands elsewhere
        ("trained on", "{hardware}", (training, ("hardware",))),
        ("commit", "{commit}", (training, ("commit",))),
        ("parameters", "{parameters:,}", (cost, ("parameters",))),
        ("multiply-adds an image", "{multiply_adds:,}", (cost, ("multiply_adds",))),
        ("model", "{bytes:,} bytes, {dtype}", (cost, ("bytes", "dtype"))),
        ("latency", f"{{latency_ms}} ms an image, {where}", (cost, ("latency_ms",))),
        (
            "throughput",
            "{images_per_second:,} images a second in batches of 64, all cores of that",
            (cost, ("images_per_second",)),
        ),
        ("beside float32", "{speed_over_float32} times as fast", (cost, ("speed_over_float32",))),
        ("Keras and onnxruntime", "differ by {parity:.0e} in probability at most", (cost, ("parity",))),
    ]
    known = [
        (title, text.format_map(vars(part)))
        for title, text, (part, needed) in rows
        if all(getattr(part, name) is not None for name in needed)
    ]
    return [*known, *([("versions", versions)] if versions else [])]
