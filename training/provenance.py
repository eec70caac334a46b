"""Where a run took place: what a card says of hardware, versions and source, and which precision pays there."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

import keras

from training.networks.architectures import Precision

_PACKAGES: Final = ("keras", "tensorflow-cpu", "tensorflow", "jax", "torch", "tf2onnx", "onnx", "onnxruntime", "numpy")


def hardware() -> str:
    """The processor and how many of its cores this process may use; the accelerator, where there is one."""
    name = _cpu_field("model name") or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    extensions = [word for word in ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx2") if word in _flags()]
    text = f"{name}, {cores} cores" + (f" ({', '.join(extensions)})" if extensions else "")
    return f"{accelerator()}; {text}" if accelerator() else text


def accelerator() -> str:
    """What Keras' backend computes on beside the CPU, in its words; empty where there is nothing."""
    if keras.backend.backend() == "torch":  # which has no list of devices in Keras
        return _torch_device()
    devices = [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]
    return ", ".join(devices)


def _torch_device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"gpu:0 ({torch.cuda.get_device_name()})"
    return "mps" if torch.backends.mps.is_available() else ""


def best_precision() -> Precision:
    """bfloat16 where there is hardware for it (2.5 times as fast on a CPU with AMX), else float32."""
    return "mixed_bfloat16" if accelerator() or {"amx_bf16", "avx512_bf16"} & _flags() else "float32"


def versions() -> dict[str, str]:
    """The packages that decide what a run computes."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # another backend's, or the other of TensorFlow's two names
    return found


def commit() -> str:
    """The commit of the checkout this code is from, with `+` where files differ from it; else the package's version."""
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
