"""`kernelscope import`."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from contract.preprocessing import RESIZE_MODES


def parser() -> argparse.ArgumentParser:
    """Return the parser of `kernelscope import`."""
    made = argparse.ArgumentParser(
        prog="kernelscope import",
        description="Make a bundle of a classifier that PyTorch, Keras or Hugging Face exported to ONNX.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope import resnet18.onnx --labels labels.txt --name pets --output models \\
    --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225          torchvision's normalisation
  kernelscope import keras.onnx --labels labels.txt --name pets --output models --range 0,255
  kernelscope import vit.onnx --labels config.json --name pets --output models --size 224x224 --range=-1,1
  kernelscope import resnet18.onnx --labels labels.txt --name pets --output models --data held-out/""",
    )
    add = made.add_argument
    add("model", type=Path, metavar="MODEL", help="the .onnx file; weights in files of their own lie beside it")
    add(
        "--labels",
        type=Path,
        required=True,
        metavar="FILE",
        help="class names: one a line, a JSON list, TorchServe's index_to_name.json or Hugging Face's config.json",
    )
    add("--name", required=True, help="the model's name")
    add("--output", type=Path, default=Path("out"), metavar="DIR", help="the models folder to publish to (out)")
    add("--size", type=_size, metavar="HxW", help="size of the input in pixels, where the graph leaves it open")
    add("--layout", choices=("nchw", "nhwc"), help="order of the input's axes, where the graph does not tell")
    add("--mean", type=_numbers, metavar="A,B,C", help="by channel, of values in [0, 1]; subtracted")
    add("--std", type=_numbers, metavar="A,B,C", help="by channel, of values in [0, 1]; divided by")
    add(
        "--range",
        type=_numbers,
        metavar="LOW,HIGH",
        help="what black and white are to the network, instead of --mean and --std: 0,255 or =-1,1 (default: 0,1)",
    )
    add("--bgr", action="store_true", help="the network takes blue first, as Caffe's and Keras' ResNet50 and VGG do")
    add("--output-name", metavar="NAME", help="the output with the answer, where several could be it")
    add(
        "--resize-mode",
        choices=RESIZE_MODES,
        default="crop",
        help="how an image of another shape is brought to size (default: crop)",
    )
    add(
        "--data",
        metavar="WHERE",
        help="labelled images that it was not trained on: calibrates on one part and scores on the other",
    )
    return made


def import_(arguments: list[str]) -> int:
    """Import a model; return the exit code."""
    chosen = parser().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape

    from training.importing import importer
    from training.importing.errors import CannotImport

    if chosen.range is not None and len(chosen.range) != 2:
        raise CannotImport(f"--range has {len(chosen.range)} numbers: give two, what black and what white is")
    console = Console()
    words = [Path(word).name if Path(word).is_absolute() else word for word in arguments]
    bundle = importer.run(
        importer.Options(
            model=chosen.model,
            labels=chosen.labels,
            name=chosen.name,
            output=chosen.output,
            size=chosen.size,
            layout=chosen.layout,
            mean=chosen.mean,
            std=chosen.std,
            value_range=chosen.range,
            bgr=chosen.bgr,
            output_name=chosen.output_name,
            resize_mode=chosen.resize_mode,
            data=chosen.data,
            command=shlex.join(["kernelscope", "import", *words]).encode(errors="replace").decode(),
        ),
        console,
    )
    accuracy = bundle.card.accuracy
    if accuracy.accuracy is not None:
        console.print(
            f"[green]{accuracy.accuracy:.2%}[/] of {accuracy.images:,} images classified correctly; calibration error "
            f"{accuracy.calibration_error:.2%} ({accuracy.uncalibrated_error:.2%} uncalibrated)",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"{bundle.card.cost.latency_ms} ms an image; published as {escape(str(bundle.folder))}; to serve it:\n"
        f"  kernelscope serve --models {escape(shlex.quote(str(chosen.output)))}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between: write 0.5,0.4,0.3") from None


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write height x width, such as 224x224")
    return int(match[1]), int(match[2])
