"""Provenance of a run: hardware, versions and commit, for the card; and the precision that is fastest there."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract import memory

if TYPE_CHECKING:
    from training.networks.architectures import Precision

_PACKAGES: Final = ("keras", "tensorflow-cpu", "tensorflow", "jax", "torch", "tf2onnx", "onnx", "onnxruntime", "numpy")


def hardware() -> str:
    """Return the processor with the cores that this process may use, and the accelerator, if there is one."""
    return f"{accelerator()}; {processor()}" if accelerator() else processor()


def processor() -> str:
    """Return the processor with the cores that this process may use."""
    name = _cpu_field("model name") or platform.machine()
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    extensions = [word for word in ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx2") if word in _flags()]
    return f"{name}, {count} cores" + (f" ({', '.join(extensions)})" if extensions else "")


def accelerator() -> str:
    """Return the accelerators that Keras' backend computes on, as the backend names them; empty for none."""
    import keras  # imported here: an import of another model needs no Keras

    if keras.backend.backend() == "torch":  # Keras lists no devices for this backend
        return _torch_device()
    devices = [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]
    kind = f" ({_jax_kind()})" if devices and keras.backend.backend() == "jax" else ""
    return ", ".join(devices) + kind


def _jax_kind() -> str:
    import jax  # only where it is the backend

    return str(jax.local_devices()[0].device_kind)


def device_memory() -> int:
    """Return the bytes of memory that JAX may use on its first device; on a CPU, what is free."""
    import jax  # only where it is the backend

    limits = jax.local_devices()[0].memory_stats() or {}
    return int(limits.get("bytes_limit") or memory.available())


def _torch_device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"gpu:0 ({torch.cuda.get_device_name()})"
    return "mps" if torch.backends.mps.is_available() else ""


def best_precision() -> Precision:
    """Return bfloat16 where the hardware supports it (2.5 times as fast on a CPU with AMX), else float32."""
    return "mixed_bfloat16" if accelerator() or {"amx_bf16", "avx512_bf16"} & _flags() else "float32"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run computes."""
    packages = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # of another backend, or the other of TensorFlow's two names
    return packages


def commit() -> str:
    """Return the commit of this checkout, with `+` if files differ from it; else the package's version."""
    home = Path(__file__).resolve().parent.parent
    if (home / ".git").exists():
        try:
            done = subprocess.run(
                ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--match="],
                cwd=home,
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"  # no git on this machine, or no commit yet
    try:
        return f"kernelscope {metadata.version('kernelscope')}"
    except metadata.PackageNotFoundError:
        return "unknown"


def _flags() -> set[str]:
    return set(_cpu_field("flags").split())


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""  # not Linux
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
