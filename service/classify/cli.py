"""`kernelscope classify`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract import cpu, preprocessing, repository
from contract.errors import UsageError
from contract.session import open_session

if TYPE_CHECKING:
    from service.classify.job import Job
    from service.classify.ray_runner import RayRunner
    from service.classify.runner import Runner

LARGEST_PART: Final = 1024
"""Images of a part: as many are classified again, for each core, where a job is killed."""
_CLUSTER_WORKERS: Final = 64
"""The most actors on a Ray cluster unless it is said how many; there are no more than it has cores."""
_LINE_SECONDS: Final = 10.0
"""Between two lines of progress where there is no terminal."""


def classify(arguments: list[str]) -> int:
    """Classify any number of images; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    on_ray = chosen.ray is not None
    workers = (_CLUSTER_WORKERS if on_ray else cpu.cores()) if chosen.workers is None else chosen.workers
    for name, least in (("top_k", 1), ("workers", 1), ("max_pixels", 1)):
        value = getattr(chosen, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be {least} or more")
    if "://" in chosen.output:
        raise UsageError(f"{chosen.output} is an address: results are written to a folder; copy them from there")

    import pyarrow as pa

    from service.classifier import models_folder
    from service.classify import job, sources

    pa.set_cpu_count(1)
    root = chosen.models or models_folder()
    name = chosen.model or repository.default(list(repository.models(root)))
    bundle = repository.find(root, name, chosen.version)
    options = job.Options(
        top_k=min(chosen.top_k, len(bundle.card.labels)),
        max_pixels=chosen.max_pixels,
        max_seconds=chosen.max_decode_seconds,
    )
    source = sources.find(chosen.images)
    output = Path(chosen.output)
    with _runner(workers, chosen.ray) as runner:
        open_session(bundle, threads=1)  # it loads, or says why not, before a job is begun
        with job.opened(
            output, source, bundle, options, workers=workers, largest_part=LARGEST_PART, progress=_Listing()
        ) as opened:
            if opened.result.is_file():
                opened.clean()
                print(f"{opened.result} is whole: {opened.state.images:,} images")
                return 0
            _run(opened, chosen.images if chosen.ray is None else source.where, bundle.folder, workers, runner)
            opened.finish(bundle)
            _report(opened)
    return 0


def _run(opened: Job, where: str, model: Path, workers: int, runner: Runner | RayRunner) -> None:
    from service.classify.worker import Setup

    state = opened.state
    pending = opened.pending()
    done = state.images - sum(map(state.images_of, pending))
    if not opened.is_new:
        print(f"goes on: {done:,} of {state.images:,} images are done", file=sys.stderr)
    setup = Setup(
        where, model.absolute(), state.model_digest, state.options, opened.folder.absolute(), state.part_size, workers
    )
    with _Progress(state.images, done) as progress:
        runner.run(opened, setup, pending, progress.add)


def _runner(workers: int, ray: str | None) -> Runner | RayRunner:
    if ray is None:
        from service.classify.runner import Runner

        return Runner(workers)

    try:
        from service.classify.ray_runner import RayRunner
    except ModuleNotFoundError as error:
        raise UsageError(f"--ray needs {error.name}: pip install 'kernelscope[ray]'") from None

    return RayRunner(workers, ray)


def _report(opened: Job) -> None:
    import pyarrow.parquet as pq

    counts = {"failed": 0, "unsure": 0}
    with opened.result.open("rb") as opened_file, pq.ParquetFile(opened_file) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, ["unsure", "code"])
            counts["failed"] += len(table) - table["code"].null_count
            counts["unsure"] += table["unsure"].to_pylist().count(True)
    print(
        f"{opened.result}: {opened.state.images:,} images, {counts['failed']:,} not readable (column error), "
        f"{counts['unsure']:,} unsure"
    )


class _Listing:
    """Says how many images were listed, now and then."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_SECONDS

    def __call__(self, images: int) -> None:
        if time.monotonic() > self._next:
            self._next += _LINE_SECONDS
            print(f"listed {images:,} images so far", file=sys.stderr)


class _Progress:
    """A bar with the time left on a terminal; a line every few seconds elsewhere.

    Args:
        images: how many there are.
        done: how many are done already.
    """

    def __init__(self, images: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._images, self._done, self._begun_with = images, done, done
        self._begin = self._last = time.monotonic()
        self._lines = not console.is_terminal
        self._bar = Progress(
            TextColumn("[bold]images"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=self._lines,
        )
        self._task = self._bar.add_task("images", total=images, completed=done, rate="")

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, images: int) -> None:
        """So many more are done."""
        self._done += images
        now = time.monotonic()
        rate = (self._done - self._begun_with) / max(now - self._begin, 1e-9)
        self._bar.update(self._task, completed=self._done, rate=f"{rate:,.0f} a second")
        if self._lines and now - self._last > _LINE_SECONDS and rate > 0:
            self._last = now
            left = (self._images - self._done) / rate
            print(
                f"{self._done:,} of {self._images:,} images, {rate:,.0f} a second, {_duration(left)} left",
                file=sys.stderr,
            )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kernelscope classify",
        description="Classify any number of images into a Parquet file; an interrupted job goes on where it was.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope classify photos/ --output results/
  kernelscope classify manifest.csv --output results/ --models out --model pets
  kernelscope classify s3://bucket/photos --output results/    credentials as the AWS tools take them
  kernelscope classify s3://bucket/photos --output results/ --ray    on the nodes of a Ray cluster

The same command again goes on with a job that was interrupted.""",
    )
    add = parser.add_argument
    add("images", metavar="WHERE", help="a folder, a manifest (.txt with an image a line, .csv), or s3://bucket/folder")
    add("--output", required=True, metavar="DIR", help="the folder of the results")
    add(
        "--models",
        type=Path,
        metavar="DIR",
        help="folder of models (KERNELSCOPE_MODELS, else the shipped one)",
    )
    add("--model", metavar="NAME", help="which of them (the only one, or cifar10)")
    add("--version", type=int, metavar="N", help="which version of it (the newest)")
    add("--top-k", type=int, default=3, metavar="K", help="classes to list (3)")
    add("--workers", type=int, metavar="N", help="processes (one for each core)")
    add(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="work on a Ray cluster: the one that this machine belongs to, or the one at ADDRESS",
    )
    add(
        "--max-pixels",
        type=int,
        default=preprocessing.MAX_PIXELS,
        metavar="N",
        help=f"width times height of an image ({preprocessing.MAX_PIXELS})",
    )
    add(
        "--max-decode-seconds",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="processor time for decoding an image (10)",
    )
    return parser
