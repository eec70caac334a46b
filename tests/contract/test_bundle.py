from __future__ import annotations

from pathlib import Path

import pytest

from contract import bundle
from contract.errors import BundleError, BundleNotFound
from tests.support.models import COLOURS, colour_bundle


def test_reading_a_bundle(tmp_path: Path) -> None:
    colours = bundle.read(colour_bundle(tmp_path, version=3).folder)
    assert colours.version == 3
    assert colours.card.labels == COLOURS
    assert colours.model.is_file()


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="not a folder"):
        bundle.read(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"no model\.onnx"):
        bundle.read(tmp_path)
