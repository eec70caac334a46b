from __future__ import annotations

import numpy as np
import pytest

from contract import preprocessing
from contract.preprocessing import Pixels
from service.explanation.subject import Subject
from tests.support.exported import recipe_bundle
from tests.support.models import float32_bundle
from tests.support.server import ROOT, SHIPPED
from training.recipes import RECIPES


@pytest.fixture(scope="session", params=RECIPES)
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Each recipe's network, exported."""
    return Subject(recipe_bundle(request.param, tmp_path_factory.mktemp("recipes")).folder)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The shipped model's float32 form."""
    return Subject(float32_bundle(SHIPPED, tmp_path_factory.mktemp("float32") / "cifar10" / "1"))


@pytest.fixture(scope="session")
def quantised() -> Subject:
    """The shipped int8 model."""
    return Subject(SHIPPED)


@pytest.fixture(scope="session")
def cat() -> Pixels:
    """uint8 (1, 32, 32, 3)."""
    return preprocessing.read((ROOT / "examples" / "cat.jpg").read_bytes(), 32, 32, "crop")[None]


@pytest.fixture(scope="session")
def images() -> Pixels:
    """One image of each class, uint8 (10, 32, 32, 3)."""
    paths = sorted((ROOT / "examples" / "images").iterdir())
    return np.stack([preprocessing.read(path.read_bytes(), 32, 32, "crop") for path in paths])
