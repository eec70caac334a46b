from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import files
from contract.errors import ImageTooLarge
from tests.support.images import image


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "a.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "c").symlink_to(tmp_path / "elsewhere")  # the same once more is no circle
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "lost").symlink_to(root / "nowhere")
    paths = [path.relative_to(root).as_posix() for path in files.below(root)]
    below_b = ("b", "b/back", "b/deep", "b/deep/a.png")
    assert paths == [*below_b, *(name.replace("b", "c", 1) for name in below_b), "lost"]


def test_what_no_image_can_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    assert files.contents(path) == b"x"
    os.truncate(path, files.LARGEST + 1)
    with pytest.raises(ImageTooLarge, match="268,435,457 bytes are more than the 268,435,456"):
        files.contents(path)


def test_images_are_found_by_name_or_content(tmp_path: Path) -> None:
    for name in ("photo.jpg?w=640", "photo.jpg ", "photo", "scan.JFIF", "phone.heic", "notes.txt", "BMW.txt"):
        (tmp_path / name).write_bytes(image("red") if name.startswith("photo") else b"BMW and others")
    for name in (
        "._x.jpg",
        ".DS_Store",
        ".hidden.jpg",
        "@eaDir/a.jpg",
        "$RECYCLE.BIN/a.jpg",
        ".git/a.jpg",
        "sub/a.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image("red"))
    paths = [path.relative_to(tmp_path).as_posix() for path in files.images(tmp_path)]
    assert paths == ["phone.heic", "photo", "photo.jpg ", "photo.jpg?w=640", "scan.JFIF", "sub/a.png"]


def test_a_folder_that_cannot_be_listed_is_told_of_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "lost+found"):  # the last is a system's own: nothing is looked for in it
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
    listed = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:  # the superuser, whom tests may run as, can list every folder
        if folder.name in {"a", "lost+found"}:
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    told: list[OSError] = []
    assert [path.name for path in files.below(tmp_path, told.append)] == ["a", "b", "x.png", "lost+found"]
    assert [error.filename for error in told] == [str(tmp_path / "a")]
    with pytest.raises(PermissionError):
        files.below(tmp_path)
