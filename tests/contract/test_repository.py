from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from contract import bundle, repository
from contract.errors import BundleError, BundleNotFound, UsageError
from tests.support.models import colour_bundle


def stage(root: Path, source: Path) -> Path:
    with repository.staging(root, "colours") as staged:
        for name in (bundle.MODEL, bundle.CARD):
            shutil.copy(source / name, staged)
        return repository.publish(staged)


def test_versions_count_up(tmp_path: Path) -> None:
    source = colour_bundle(tmp_path / "source").folder
    root = tmp_path / "models"
    assert [stage(root, source).name for _ in range(3)] == ["1", "2", "3"]
    assert repository.models(root) == {"colours": [1, 2, 3]}
    assert repository.find(root, "colours").version == 3
    assert repository.find(root, "colours", 2).version == 2
    assert not [entry for entry in (root / "colours").iterdir() if not entry.name.isdecimal()]


def test_a_number_that_holds_no_bundle_is_not_reused(tmp_path: Path) -> None:
    source = colour_bundle(tmp_path / "source").folder
    (tmp_path / "models" / "colours" / "7" / "half").mkdir(parents=True)
    assert stage(tmp_path / "models", source).name == "8"


def test_numbers_that_are_no_versions_are_passed_over(tmp_path: Path) -> None:
    source = colour_bundle(tmp_path / "source").folder
    (tmp_path / "models" / "colours" / "20240101120000").mkdir(parents=True)
    assert stage(tmp_path / "models", source).name == "1"
    assert repository.find(tmp_path / "models", "colours").version == 1
    (tmp_path / "models" / "colours" / "999999999").mkdir()
    with pytest.raises(BundleError, match="version 999999999, the last there can be"):
        stage(tmp_path / "models", source)


def test_newest_is_by_number_not_by_letter(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        colour_bundle(tmp_path, version=version)
    assert repository.versions(tmp_path, "colours") == [2, 9, 10]


def test_a_failure_while_staging_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with repository.staging(tmp_path / "models", "colours") as staged:
            (staged / bundle.MODEL).write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not (tmp_path / "models").exists()


def test_what_is_not_a_bundle_is_not_published(tmp_path: Path) -> None:
    with repository.staging(tmp_path, "colours") as staged:
        (staged / bundle.MODEL).write_bytes(b"model")
        with pytest.raises(BundleError, match="not a bundle"):
            repository.publish(staged)
    assert repository.models(tmp_path) == {}


def test_an_unwritable_repository_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot write"), repository.staging(tmp_path / "file", "colours"):
        pass


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 101])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits"), repository.staging(tmp_path, name):
        pass


def test_what_is_not_there_is_said_with_what_is(tmp_path: Path) -> None:
    colour_bundle(tmp_path, version=4)
    with pytest.raises(BundleNotFound, match="models there: colours"):
        repository.find(tmp_path, "shapes")
    with pytest.raises(BundleNotFound, match="versions there: 4"):
        repository.find(tmp_path, "colours", 5)
    with pytest.raises(BundleNotFound, match="cannot be listed"):
        repository.models(tmp_path / "absent")


def test_the_shipped_repository_is_there() -> None:
    assert "cifar10" in repository.models(repository.shipped())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_repository_is_said_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BundleError, match="Permission denied"), repository.staging(tmp_path, "colours"):
        pass
