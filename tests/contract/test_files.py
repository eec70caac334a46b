from __future__ import annotations

import os
from pathlib import Path

import pytest

from contract import files
from contract.errors import ImageTooLarge


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "a.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "c").symlink_to(tmp_path / "elsewhere")  # the same once more is no circle
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "lost").symlink_to(root / "nowhere")
    found = [path.relative_to(root).as_posix() for path in files.below(root)]
    one = ("b", "b/back", "b/deep", "b/deep/a.png")
    assert found == [*one, *(name.replace("b", "c", 1) for name in one), "lost"]


def test_what_no_image_can_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    assert files.contents(path) == b"x"
    os.truncate(path, files.LARGEST + 1)
    with pytest.raises(ImageTooLarge, match="268,435,457 bytes are more than the 268,435,456"):
        files.contents(path)
