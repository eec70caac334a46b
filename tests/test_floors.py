"""Who may import whom: `contract` below, `service` and `training` above, which never meet."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import foreign
from tests.support.images import class_folder
from tests.support.server import ROOT

BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""

ALLOWED = {
    # onnxruntime: both floors open sessions in one way, and `contract.session` imports it only when one is opened;
    # with onnx it is what `contract.network` needs, which is imported by whoever looks inside a network
    "contract": {"contract", "numpy", "PIL", "onnx", "onnxruntime"},
    "service": {
        "contract", "service", "numpy", "fastapi", "starlette", "uvicorn", "httptools", "onnxruntime", "pydantic",
        "pydantic_settings", "prometheus_client", "simplejpeg", "opentelemetry", "rich", "PIL", "onnx",
        "pyarrow", "fsspec", "python_multipart", "ray",
    },
    "kernelscope": {"contract", "kernelscope", "service", "training", "rich", "httpx"},
    "training": {
        "contract", "training", "numpy", "PIL", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "rich",
        "tensorboard", "matplotlib", "simplejpeg", "torch", "jax",
    },
}  # fmt: skip


def without(absent: set[str], code: str) -> subprocess.CompletedProcess[str]:
    script = BLOCK.format(absent=absent) + code
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize("floor", ALLOWED)
def test_a_floor_imports_what_it_may(floor: str) -> None:
    for path in (ROOT / floor).rglob("*.py"):
        assert imports(path) <= ALLOWED[floor], path


def test_onnxruntime_is_imported_by_session_alone_and_only_when_one_is_opened() -> None:
    users = {path.name for path in (ROOT / "contract").glob("*.py") if {"onnx", "onnxruntime"} & imports(path)}
    assert users == {"session.py"}
    modules = [f"contract.{path.stem}" for path in (ROOT / "contract").glob("[a-z]*.py")]
    done = without({"onnxruntime"}, f"import {', '.join(modules)}")
    assert done.returncode == 0, done.stderr


def test_tensorflow_is_imported_by_export_and_by_layers_of_our_own_alone() -> None:
    users = {path.name for path in (ROOT / "training").rglob("*.py") if {"tensorflow", "tf2onnx"} & imports(path)}
    assert users == {"convolution.py", "normalisation.py", "tensorflow_graph.py"}


def test_jax_is_imported_by_the_loop_on_a_device_alone_and_where_its_devices_are_asked_for() -> None:
    users = {path.name for path in (ROOT / "training").rglob("*.py") if "jax" in imports(path)}
    assert users == {"device.py", "provenance.py", "cli.py"}


def test_predicting_and_serving_need_no_training_packages() -> None:
    absent = {"tensorflow", "keras", "tf2onnx", "onnx", "tensorboard", "training"}
    done = without(
        absent,
        "import service.app, service.server\nfrom kernelscope import cli\n"
        "sys.exit(cli.main(['predict', 'examples/cat.jpg', '--json']))",
    )
    assert done.returncode == 0, done.stderr
    assert '"label": "cat"' in done.stdout


def test_training_needs_no_serving_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    class_folder(tmp_path / "colours")
    words = ["train", "--data", tmp_path / "colours", "--output", tmp_path / "out", "--run", tmp_path / "run"]
    done = without(
        {"fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client", "service"},
        f"from kernelscope import cli; sys.exit(cli.main({[*map(str, words), '--epochs', '1', '--batch-size', '16']}))",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "colours" / "1" / "model.onnx").is_file()


def test_importing_a_model_needs_no_training_packages(tmp_path: Path) -> None:
    foreign.save(foreign.classifier(), tmp_path)
    foreign.write_labels(tmp_path)
    class_folder(tmp_path / "data", each=40)
    words = ["import", "model.onnx", "--labels", "labels.txt", "--name", "pets", "--output", "out", "--data", "data"]
    done = without(
        {"tensorflow", "keras", "tf2onnx", "tensorboard", "matplotlib", "fastapi", "service"},
        f"import os; os.chdir({str(tmp_path)!r})\nfrom kernelscope import cli; sys.exit(cli.main({words}))",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "pets" / "1" / "model.onnx").is_file()


def test_a_missing_package_is_one_line() -> None:
    done = without({"keras"}, "from kernelscope import cli; sys.exit(cli.main(['train']))")
    assert done.returncode == 1
    assert done.stderr == "kernelscope train: keras is not installed: pip install 'kernelscope[train]'\n"


def test_classifying_in_bulk_loads_no_server() -> None:
    """Each of its processes would pay for that."""
    done = without({"fastapi", "uvicorn", "pydantic", "prometheus_client"}, "import service.classify.runner")
    assert done.returncode == 0, done.stderr


def test_classifying_in_bulk_needs_an_extra() -> None:
    done = without(
        {"pyarrow"},
        "from kernelscope import cli; sys.exit(cli.main(['classify', 'examples/images', '--output', 'nowhere']))",
    )
    assert done.returncode == 1
    assert done.stderr == "kernelscope classify: pyarrow is not installed: pip install 'kernelscope[classify]'\n"


def test_classifying_on_ray_needs_another() -> None:
    done = without(
        {"ray"},
        "from kernelscope import cli; "
        "sys.exit(cli.main(['classify', 'examples/images', '--output', 'nowhere', '--ray']))",
    )
    assert done.returncode == 2
    assert done.stderr == "kernelscope classify: --ray needs ray: pip install 'kernelscope[ray]'\n"
    assert not (ROOT / "nowhere").exists()


def test_every_module_stands_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    missing = [
        str(path.relative_to(ROOT))
        for floor in ("contract", "service", "training")
        for path in (ROOT / floor).rglob("*.py")
        if path.stem not in {"__init__", "errors"} and f"`{path.stem}`" not in text and f"/{path.stem}`" not in text
    ]
    assert missing == []


def test_the_distribution_holds_every_package() -> None:
    """A package that is missing from pyproject.toml works in a checkout and is missing once installed."""
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for floor in ALLOWED
        for path in (ROOT / floor).rglob("__init__.py")
    }
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == {*there, "kernelscope_examples", "kernelscope_models"}
