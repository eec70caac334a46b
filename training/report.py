"""The model card for people: what `card.json` says, as a page of Markdown."""

from __future__ import annotations

from typing import Any

from contract.bundle import Card


def markdown(card: Card) -> str:
    """The card as Markdown, ending in a line feed."""
    accuracy, training, data, cost = card.accuracy, card.training, card.data, card.cost
    low, high = accuracy["interval"]
    lines = [
        f"# {card.name}",
        "",
        f"Sorts pictures of {card.width}×{card.height} pixels into {len(card.labels)} classes: "
        f"{', '.join(card.labels)}.",
        f"A picture of another shape: {_FITS[card.fit]}; shrinking is antialiased (bicubic).",
        "",
        f"**{accuracy['accuracy']:.2%}** of the {accuracy['pictures']:,} pictures of the {accuracy['split']} split are "
        f"answered right (95 % interval {low:.2%} to {high:.2%}); the expected calibration error over 15 bins is "
        f"{accuracy['calibration_error']:.2%} (before the temperature of {card.temperature}: "
        f"{accuracy['uncalibrated_error']:.2%}).",
        "",
        "| class | answered right |",
        "|---|---|",
        *(f"| {label} | {share:.1%} |" for label, share in accuracy["per_class"].items()),
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in _facts(data, training, cost)),
        "",
        f"Made {card.created[:10]} by `{training['command']}`.",
    ]
    return "\n".join(lines) + "\n"


_FITS = {
    "crop": "the shorter side is brought to size and the centre is cut out",
    "squash": "both sides are brought to size, whatever that does to its proportions",
    "letterbox": "the longer side is brought to size and black bars fill the rest",
}


def _facts(data: dict[str, Any], training: dict[str, Any], cost: dict[str, Any]) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in training["versions"].items())
    return [
        ("data", f"{data['name']}, {data['checksum']}"),
        (
            "pictures",
            f"{data['train']:,} to train, {data['validation']:,} held out for choices and the temperature, "
            f"{data['test']:,} to test, {data['skipped']:,} unreadable",
        ),
        ("recipe", f"{training['recipe']}, seed {training['seed']}, batches of {training['batch_size']}"),
        ("training", f"{training['epochs']} epochs, {training['seconds']:,.0f} s, {training['precision']}"),
        ("hardware", str(training["hardware"])),
        ("versions", versions),
        ("commit", str(training["commit"])),
        ("parameters", f"{cost['parameters']:,}"),
        ("multiply-adds a picture", f"{cost['multiply_adds']:,}"),
        ("model", f"{cost['bytes']:,} bytes, {cost['dtype']}"),
        ("latency", f"{cost['latency_ms']} ms a picture, one thread of the hardware above"),
        *([("beside float32", f"{cost['speed_over_float32']} times as fast")] if "speed_over_float32" in cost else []),
        ("Keras and onnxruntime", f"differ by {cost['parity']:.0e} in probability at most"),
    ]
