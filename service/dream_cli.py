"""`kernelscope dream`: what a layer sees in an image, exaggerated."""

from __future__ import annotations

import argparse
from pathlib import Path

from contract import files, preprocessing, repository
from contract.cpu import cores
from contract.errors import UsageError


def dream(arguments: list[str]) -> int:
    """Exaggerate what a layer sees in an image; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    if min(chosen.octaves, chosen.steps, chosen.size) < 1 or not 0 < chosen.rate <= 100:
        raise UsageError("--octaves, --steps and --size must be 1 or more, --rate above 0 and 100 at most")

    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from contract.network.form import Form
    from service.classifier import models_folder
    from service.explanation.dream import Dream
    from service.explanation.dream import dream as exaggerate
    from service.explanation.render import png

    root = chosen.models or models_folder()
    name = chosen.model or repository.default(list(repository.models(root)))
    bundle = repository.find(root, name, chosen.version)
    if bundle.float32 is None:
        raise UsageError(f"{bundle.folder} is {bundle.card.cost.dtype} and has no float32 form: give another --version")
    form = Form(bundle.float32, bundle.card.labels)
    layer = form.layers.find(chosen.layer)
    image = preprocessing.decode(files.contents(chosen.image))
    share = chosen.size / max(image.size)
    image = image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))
    wish = Dream(layer, chosen.channel, chosen.octaves, chosen.steps, chosen.rate)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{layer.id} of {name}")
        dreamt = exaggerate(
            form,
            np.asarray(image, np.uint8),
            wish,
            cores(),
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    output = chosen.output or chosen.image.with_name(f"{chosen.image.stem}-{layer.id}.png")
    output.write_bytes(png(dreamt))
    print(output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kernelscope dream",
        description="Change an image so that a layer responds more to it (DeepDream): what the layer sees in it stands "
        "out. GET /models/NAME/layers of a server lists the layers.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope dream cat.jpg --layer conv4
  kernelscope dream cat.jpg --layer conv6 --channel 17 --output dream.png""",
    )
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help="an image")
    add("--layer", required=True, metavar="LAYER", help="the layer, as in conv4")
    add("--channel", type=int, metavar="N", help="one of its channels (all)")
    add("--output", type=Path, metavar="FILE", help="the PNG to write (IMAGE-LAYER.png)")
    add("--size", type=int, default=256, metavar="N", help="pixels of the longer side (256)")
    add("--octaves", type=int, default=3, metavar="N", help="sizes to go through, each 1.4 times the one before (3)")
    add("--steps", type=int, default=20, metavar="N", help="steps at each size (20)")
    add("--rate", type=float, default=1.0, metavar="X", help="how long a step is (1)")
    add(
        "--models",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder of models (KERNELSCOPE_MODELS, else the shipped one)",
    )
    add("--model", metavar="NAME", help="which of them (the only one, or cifar10)")
    add("--version", type=int, metavar="N", help="which version of it (the newest)")
    return parser
