"""Kernelscope and its peers, and how each is started: with as many processes as the others, or as it comes.

Each peer has an environment of its own under .venv-bench/, made from requirements/peers/.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = Path(__file__).resolve().parent / "peers"
ENVIRONMENTS: Final = ROOT / ".venv-bench"
PORT: Final = 8451
FORM, TENSOR, NUMBERS, RAW = "multipart", "V2 binary", "V2 JSON", "raw body"


@dataclass(frozen=True)
class Setting:
    """What servers are measured with.

    Attributes:
        bundle: the model.
        processes: of each server; 0 for its own default.
        decoder: of the peers, `pillow` or `ours`.
        log_requests: whether each server that can writes a line a request.
    """

    bundle: Path
    processes: int
    decoder: str = "pillow"
    log_requests: bool = False


@dataclass(frozen=True)
class Server:
    """A server.

    Attributes:
        name: as the tables have it.
        forms: in which it takes images.
        command: starts it; given the setting and an empty folder.
        environment: its environment's folder; None for this one.
        variables: of its own.
        is_asked_for: whether it is measured only where it is named.
    """

    name: str
    forms: tuple[str, ...]
    command: Callable[[Setting, Path], list[str]]
    environment: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    is_asked_for: bool = False

    def is_there(self) -> bool:
        """Whether its environment has been made."""
        return self.environment is None or (ENVIRONMENTS / self.environment / ".ready").exists()

    @contextmanager
    def prepared(self, setting: Setting) -> Iterator[tuple[list[str], dict[str, str]]]:
        """Its command, and the variables that it is started with."""
        with tempfile.TemporaryDirectory() as folder:
            command = self.command(setting, Path(folder))
            variables = {
                **os.environ,
                "BENCH_BUNDLE": str(setting.bundle),
                "BENCH_THREADS": "1" if setting.processes else "0",
                "BENCH_PROCESSES": str(setting.processes),
                "BENCH_DECODER": setting.decoder,
                "PYTHONPATH": f"{PEERS}:{ROOT}",
                "PATH": f"{Path(command[0]).parent}:{os.environ['PATH']}",
                **self.variables,
            }
            yield command, variables


def _models(setting: Setting, folder: Path) -> str:
    """A models folder that holds this bundle alone."""
    models = folder / "models" / setting.bundle.parent.name
    models.mkdir(parents=True)
    (models / setting.bundle.name).symlink_to(setting.bundle)
    return str(folder / "models")


def _kernelscope(setting: Setting, folder: Path) -> list[str]:
    words = ["-m", "kernelscope", "serve", "--port", str(PORT), "--models", _models(setting, folder)]
    words += ["--log-requests", str(setting.log_requests).lower()]
    return [sys.executable, *words, *(["--workers", str(setting.processes)] if setting.processes else [])]


def _on_ray(replicas: int) -> Callable[[Setting, Path], list[str]]:
    return lambda setting, folder: [
        "/usr/bin/env", f"BENCH_MODELS={_models(setting, folder)}",
        f"KERNELSCOPE_LOG_REQUESTS={str(setting.log_requests).lower()}",
        sys.executable, "on_ray.py", str(PORT), str(replicas),
    ]  # fmt: skip


def _python(name: str) -> str:
    return str(ENVIRONMENTS / name / "bin" / "python")


def _fastapi(setting: Setting, folder: Path) -> list[str]:
    words = ["-m", "uvicorn", "plain_fastapi:app", "--log-level", "info" if setting.log_requests else "warning"]
    words += ["--port", str(PORT)] + ([] if setting.log_requests else ["--no-access-log"])
    return [_python("fastapi"), *words, *(["--workers", str(setting.processes)] if setting.processes else [])]


def _script(name: str, script: str) -> Callable[[Setting, Path], list[str]]:
    return lambda setting, folder: [_python(name), script, str(PORT)]


def _bentoml(setting: Setting, folder: Path) -> list[str]:
    return [str(ENVIRONMENTS / "bentoml" / "bin" / "bentoml"), "serve", "bentoml_app:Classifier", "--port", str(PORT)]


def _mlserver(setting: Setting, folder: Path) -> list[str]:
    return [_python("mlserver"), "mlserver_app.py", str(PORT), setting.bundle.parent.name, str(folder)]


def _triton(setting: Setting, folder: Path) -> list[str]:
    """The server from the wheel, its Python backend with the stub for this Python, and a repository."""
    (packages,) = (ENVIRONMENTS / "triton" / "lib").glob("python*/site-packages")
    parts = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(parts / "backends" / "python", backend)
    shutil.copytree(
        parts / "python_backend_stubs" / packages.parent.name.removeprefix("python"), backend, dirs_exist_ok=True
    )
    card = json.loads((setting.bundle / "card.json").read_text())
    model = folder / "models" / setting.bundle.parent.name
    (model / "1").mkdir(parents=True)
    shutil.copy(PEERS / "triton" / "triton_model.py", model / "1" / "model.py")
    config = (PEERS / "triton" / "config.pbtxt").read_text()
    for word, value in {
        "NAME": setting.bundle.parent.name,
        "HEIGHT": card["height"],
        "WIDTH": card["width"],
        "CLASSES": len(card["labels"]),
        "INSTANCES": setting.processes or 1,
    }.items():
        config = config.replace(word, str(value))
    (model / "config.pbtxt").write_text(config)
    server = parts / "bin" / "tritonserver"
    return [
        "/usr/bin/env", f"LD_LIBRARY_PATH={packages / 'nvidia_pytriton.libs'}",
        f"PATH={ENVIRONMENTS / 'triton' / 'bin'}:{os.environ['PATH']}", f"PYTHONPATH={PEERS}:{packages}", str(server),
        "--model-repository", str(folder / "models"), "--backend-directory", str(folder / "backends"),
        "--http-port", str(PORT), "--allow-grpc", "false", "--allow-metrics", "false",
    ]  # fmt: skip


SERVERS: Final = (
    Server("Kernelscope", (FORM, TENSOR, NUMBERS, RAW), _kernelscope),
    Server("Triton 2.51, Python backend", (TENSOR,), _triton, "triton"),
    Server("plain FastAPI", (FORM,), _fastapi, "fastapi"),
    Server("LitServe", (FORM,), _script("litserve", "litserve_app.py"), "litserve"),
    Server("BentoML", (FORM,), _bentoml, "bentoml", {"BENTOML_DO_NOT_TRACK": "true"}),
    Server("Ray Serve", (FORM,), _script("ray", "ray_app.py"), "ray", {"RAY_USAGE_STATS_ENABLED": "0"}),
    Server("MLServer", (NUMBERS,), _mlserver, "mlserver"),
    Server("Kernelscope on Ray, one replica", (FORM, TENSOR, RAW), _on_ray(1), is_asked_for=True),
    Server("Kernelscope on Ray, two replicas", (FORM, TENSOR, RAW), _on_ray(2), is_asked_for=True),
)
