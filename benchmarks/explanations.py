"""How faithful explanations are: insertion, deletion and ROAD beside control maps and Grad-CAM, and what a call costs.

    pip install torch
    python -m benchmarks.explanations models/cifar10/3 --data cifar10.zip

Writes `scores.csv`, a row for each image and map, `calls.csv` and `tables.md`. Images that `scores.csv` has already are
not measured again, so that a run that was stopped goes on; a run with another model or other options needs another
`--output`. Without PyTorch, leave Grad-CAM out: `--maps occlusion ...`.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import faithfulness
from benchmarks.faithfulness import Map
from contract import bundle, session
from contract.network.form import Form
from contract.preprocessing import Pixels
from service.explanation import contributions, gradient_activation, integrated_gradients, occlusion
from service.explanation.question import Question
from training.data import dataset as datasets
from training.data.split import Split

MAPS: Final = ("occlusion", "integrated_gradients", "gradient_activation", "contributions", "grad_cam")
COLUMNS: Final = ("image", "class", "answer", "map", "insertion", "deletion", "road", "at_start", "at_end")
_CALLS: Final = 20
_WARM_UP: Final = 3


@dataclass
class Model:
    """A bundle, and the float32 network that gradients are taken of.

    Attributes:
        folder: the bundle's.
        float32: the network's file.
    """

    folder: Path
    float32: Path

    @cached_property
    def _bundle(self) -> bundle.Bundle:
        return bundle.read(self.folder)

    @cached_property
    def served(self) -> Form:
        """The bundle's own network."""
        return Form(self._bundle.model, self._bundle.card.labels)

    @cached_property
    def exact(self) -> Form:
        """The float32 network."""
        return Form(self.float32, self._bundle.card.labels)

    @cached_property
    def head(self) -> contributions.Head:
        """The head of the bundle's own network."""
        return contributions.Head(self.served)

    @cached_property
    def torch_network(self) -> Any:
        """The float32 network in PyTorch."""
        import torch

        from benchmarks.grad_cam import Network

        torch.set_num_threads(1)  # as onnxruntime's sessions for explanations have
        return Network(self.exact.graph, self.exact.score)

    @cached_property
    def _session(self) -> Any:
        return session.open_session(self._bundle, threads=1, spin_microseconds=0)

    def probabilities(self, images: Pixels) -> Map:
        """What the bundle answers, (N, classes), calibrated as its card says."""
        (values,) = self._session.run([bundle.PROBABILITIES], {bundle.INPUT: images})
        return np.asarray(values, np.float64)

    def explain(self, name: str, image: Pixels, target: int) -> Map:
        """The map of a method for an image, uint8 (1, H, W, 3), with the method's own defaults."""
        question, size = Question(target), image.shape[1:3]
        match name:
            case "occlusion":
                heat_map = occlusion.explain(self.served, image, question).heat_map()
            case "integrated_gradients":
                heat_map = integrated_gradients.explain(self.exact, image, question).heat_map()
            case "gradient_activation":
                layer = gradient_activation.usual_layer(self.exact)
                heat_map = gradient_activation.explain(self.exact, image, question, layer).heat_map()
            case "contributions":
                heat_map = self.head.contributions(image, question).heat_map()
            case _:
                return np.asarray(self.torch_network.grad_cam(image, target), np.float64)
        return np.asarray(heat_map.pixels(*size), np.float64)


@dataclass(frozen=True)
class Plan:
    """What is measured with each image.

    Attributes:
        model: what is explained.
        maps: the methods.
        pixels: that change at each step.
        blur: the standard deviation, in pixels, of the blur where insertion begins.
        seed: of the choice of images, of random maps, ties and noise.
    """

    model: Model
    maps: tuple[str, ...]
    pixels: int
    blur: float
    seed: int

    def rows(self, index: int, image: Pixels) -> list[dict[str, Any]]:
        """Insertion, deletion and ROAD of every map of an image, uint8 (H, W, 3), and of the controls."""
        rng = np.random.default_rng([self.seed, index])
        target = int(self.model.probabilities(image[None]).argmax())
        maps = {name: self.model.explain(name, image[None], target) for name in self.maps}
        maps |= {f"{name}, blurred": faithfulness.smooth(values) for name, values in maps.items()}
        maps |= faithfulness.controls(image, rng)
        start, grey = faithfulness.blurred(image, self.blur), np.full_like(image, 127)

        def score(images: Pixels) -> Map:
            return self.model.probabilities(images)[:, target]

        ends = dict(zip(("at_start", "at_end"), score(np.stack([start, grey])), strict=True))
        return [
            {"image": index, "answer": self.model.served.labels[target], "map": name}
            | faithfulness.scores(values, image, start, grey, score, self.pixels, rng)
            | ends
            for name, values in maps.items()
        ]


def measure(plan: Plan, test: Split, images: int, workers: int, path: Path) -> None:
    """Append rows to a CSV file, for images of a choice that it lacks."""
    chosen = np.random.default_rng(plan.seed).permutation(len(test.targets))[:images].tolist()
    done = {int(row["image"]) for row in read(path)} if path.exists() else set()
    left = [index for index in chosen if index not in done]
    labels = bundle.read(plan.model.folder).card.labels
    context = multiprocessing.get_context("spawn")
    with path.open("a", newline="") as file, ProcessPoolExecutor(workers, context) as pool:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for rows in pool.map(_rows, [plan] * len(left), left, (test.images[index] for index in left)):
            label = labels[int(test.targets[rows[0]["image"]])]
            writer.writerows(
                {key: f"{value:.5f}" if isinstance(value, float) else value for key, value in row.items()}
                | {"class": label}
                for row in rows
            )
            file.flush()  # an image at a time: what is there is whole


_plans: dict[str, Plan] = {}


def _rows(plan: Plan, index: int, image: Pixels) -> list[dict[str, Any]]:
    """In a worker: with the models that it has loaded already."""
    return _plans.setdefault(repr(plan), plan).rows(index, image)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _memory(name: str) -> float:
    """MiB of this process, as Linux tells: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {name} in /proc/self/status")


def call(name: str, model: Model, image: Pixels, target: int) -> dict[str, Any]:
    """What a call costs, in a process of its own: median time, and its memory at most beside what it had before."""
    for _ in range(_WARM_UP):
        model.explain(name, image, target)
    seconds = []
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    for _ in range(_CALLS):
        started = time.perf_counter()
        model.explain(name, image, target)
        seconds.append(time.perf_counter() - started)
    milliseconds = [1000 * value for value in seconds]
    return {
        "map": name,
        "median_ms": round(statistics.median(milliseconds), 2),
        "fastest_ms": round(min(milliseconds), 2),
        "slowest_ms": round(max(milliseconds), 2),
        "process_mib": round(_memory("VmHWM"), 1),
        "call_mib": round(max(0.0, _memory("VmHWM") - before), 1),
        "load": round(os.getloadavg()[0], 1),
    }


def calls(plan: Plan, image: Pixels, path: Path) -> None:
    """Write what a call of each method costs to a CSV file."""
    target = int(replace(plan.model).probabilities(image).argmax())
    rows = []
    for name in plan.maps:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            rows.append(alone.submit(call, name, plan.model, image, target).result())
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def tables(rows: list[dict[str, str]], costs: list[dict[str, str]]) -> str:
    """Markdown: means with intervals, differences from random maps image by image, and what a call costs."""
    by_map: dict[str, dict[int, dict[str, str]]] = {}
    for row in rows:
        by_map.setdefault(row["map"], {})[int(row["image"])] = row
    images = sorted(set.intersection(*map(set, by_map.values())))

    def column(name: str, measure: str) -> Map:
        return np.array([float(by_map[name][image][measure]) for image in images])

    measures = ("insertion", "deletion", "road")
    start, end = (column("random", key).mean() for key in ("at_start", "at_end"))
    lines = [f"{len(images)} images; mean probability of the answer where insertion begins: {start:.3f}, where"]
    lines += [
        f"deletion ends: {end:.3f}.",
        "",
        "| map | insertion, higher is better | deletion, lower | ROAD, higher |",
    ]
    lines += ["|---|---|---|---|"]
    lines += [f"| {name} | {' | '.join(_shown(column(name, key)) for key in measures)} |" for name in by_map]
    for control in ("random", "random, blurred"):
        lines += ["", f"| minus *{control}* | insertion | deletion | ROAD |", "|---|---|---|---|"]
        for name in by_map:
            if name != control:
                shown = (_shown(column(name, key) - column(control, key), "+") for key in measures)
                lines.append(f"| {name} | {' | '.join(shown)} |")
    lines += ["", "| a call | median ms | fastest | slowest | MiB at most | MiB more than before | load |"]
    lines += ["|---|---|---|---|---|---|---|", *(f"| {' | '.join(row.values())} |" for row in costs)]
    return "\n".join(lines) + "\n"


def _shown(values: Any, sign: str = "") -> str:
    mean, low, high = (f"{value:{sign}.3f}" for value in faithfulness.interval(values))
    return f"{mean} ({low} to {high})"


def main(arguments: list[str] | None = None) -> int:
    """Write the CSV files and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("bundle", type=Path)
    add("--float32", type=Path, help="ONNX file that gradients are taken of (default: the bundle's twin, or its own)")
    add("--data", required=True, help="with a test split that the bundle was not trained on")
    add("--images", type=int, default=500)
    add("--maps", nargs="+", choices=MAPS, default=list(MAPS))
    add("--pixels", type=int, default=8, help="that change at each step of insertion and deletion")
    add("--blur", type=float, default=4.0, help="standard deviation, in pixels, of the blur where insertion begins")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=2)
    add("--output", type=Path, default=Path("out/explanations"))
    chosen = parser.parse_args(arguments)
    if "grad_cam" in chosen.maps and importlib.util.find_spec("torch") is None:
        parser.error("grad_cam needs PyTorch: pip install torch, or name the other maps with --maps")
    served = bundle.read(chosen.bundle)
    model = Model(chosen.bundle, chosen.float32 or served.float32 or served.model)
    test = datasets.choose(datasets.load_for(served.card, chosen.data), "test", served.card)[1]
    plan = Plan(model, tuple(chosen.maps), chosen.pixels, chosen.blur, chosen.seed)
    chosen.output.mkdir(parents=True, exist_ok=True)
    scores, costs = chosen.output / "scores.csv", chosen.output / "calls.csv"
    measure(plan, test, chosen.images, chosen.workers, scores)
    calls(plan, test.images[:1], costs)
    text = tables(read(scores), read(costs))
    (chosen.output / "tables.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
