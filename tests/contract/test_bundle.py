from __future__ import annotations

from pathlib import Path

import pytest

from contract import bundle
from contract.errors import BundleError, BundleNotFound
from tests.support.models import COLOURS, colour_bundle


def test_reading_a_bundle(tmp_path: Path) -> None:
    found = bundle.read(colour_bundle(tmp_path, version=3).folder)
    assert found.version == 3
    assert found.card.labels == COLOURS
    assert found.model.is_file()


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="not a folder"):
        bundle.read(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"no model\.onnx"):
        bundle.read(tmp_path)
