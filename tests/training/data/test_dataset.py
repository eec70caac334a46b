from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract import preprocessing
from contract.card import Card
from contract.errors import DataError, UsageError
from tests.support.decoding import Caller, Target, decoder
from tests.support.images import class_folder, image
from tests.support.models import COLOURS
from training.data import arrays, dataset, memory
from training.data.split import Rows, Split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return class_folder(tmp_path / "colours")


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def tarred(folder: Path, path: Path) -> Path:
    kind = path.suffix.removeprefix(".").replace("tar", "")
    with tarfile.open(path, f"w:{kind}") as archive:  # type: ignore[call-overload]
        archive.add(folder, folder.name)
    return path


def same(left: Split | None, right: Split | None) -> bool:
    if left is None or right is None:
        return left is right
    return np.array_equal(left.images, right.images) and np.array_equal(left.targets, right.targets)


def test_a_folder(folder: Path) -> None:
    found = dataset.load(str(folder))
    assert found.labels == tuple(sorted(COLOURS))
    assert found.size == (16, 16)
    assert (len(found.train), len(found.validation), found.test and len(found.test)) == (33, 3, 12)
    first = found.train.images[0]
    assert found.labels[int(found.train.targets[0])] == COLOURS[int(first.mean((0, 1)).argmax())]


def test_archives_hold_what_their_folder_holds(folder: Path, tmp_path: Path) -> None:
    """The same data: the same checksum, and the same images held out."""
    whole = dataset.load(str(folder))
    for path in (
        zipped(folder, tmp_path / "a.zip"),
        tarred(folder, tmp_path / "b.tar"),
        tarred(folder, tmp_path / "c.tar.xz"),
    ):
        for _ in range(2):  # the second time, the archive is not unpacked
            found = dataset.load(str(path))
            assert found.labels == whole.labels
            assert found.name == path.name.split(".")[0]
            assert found.checksum == whole.checksum
            for split in ("train", "validation", "test"):
                assert same(getattr(found, split), getattr(whole, split))


def test_what_is_known_of_an_archive_is_not_read_from_it_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train" / "grey").mkdir()
    path = tarred(folder, tmp_path / "a.tar")
    whole = dataset.load(str(path))
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("it was opened"))
    again = dataset.load(str(path))
    assert same(again.train, whole.train)
    assert problems(again) == problems(whole) == {"empty_class": ("colours/train/grey",)}


def test_the_checksum_is_of_what_is_used(folder: Path, tmp_path: Path) -> None:
    whole = dataset.load(str(folder))
    for name in (".DS_Store", "train/.DS_Store", "train/red/._0.png", "train/red/Thumbs.db", "notes.txt"):
        (folder / name).write_bytes(b"beside")
    (folder / "train" / "red" / "broken.png").write_bytes(b"no image")
    (folder / "lost+found").mkdir()
    assert dataset.load(str(folder)).checksum == whole.checksum
    os.rename(folder / "train", folder / "Training")
    assert dataset.load(str(folder)).checksum == whole.checksum
    wrapped = tmp_path / "outer" / "inner"
    shutil.copytree(folder, wrapped)
    assert dataset.load(str(wrapped.parent)).checksum == whole.checksum
    os.rename(folder / "Training" / "red" / "0.png", folder / "Training" / "green" / "red.png")
    assert dataset.load(str(folder)).checksum != whole.checksum


def test_older_cards_name_the_archive(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "a.zip")
    found = dataset.load(str(path))
    assert dataset.trained_on(card(found), found)
    assert dataset.trained_on(card(found, checksum=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"), found)
    assert not dataset.trained_on(card(found, checksum="sha256:"), dataset.load(str(folder)))


def test_labels_may_stand_in_a_table(folder: Path, tmp_path: Path) -> None:
    """The table itself is given, or the folder that it stands in; loose images, and those in folders of no meaning."""
    flat = tmp_path / "flat"
    flat.mkdir()
    rows = []
    for file in sorted((folder / "train").rglob("*.png")):
        shutil.copy(file, flat / f"{file.parent.name}-{file.name}")
        rows.append(f"{file.parent.name}-{file.name},{file.parent.name}")
    (flat / "labels.csv").write_text("file,label\n" + "\n".join(rows[:-1]))
    (flat / "@eaDir").mkdir()
    for name in ("._labels.csv", f"._{rows[0].split(',')[0]}", f"@eaDir/{rows[0].split(',')[0]}"):
        (flat / name).write_bytes(image("red"))
    for where in (flat, flat / "labels.csv"):
        found = dataset.load(str(where))
        assert found.labels == tuple(sorted(COLOURS))
        assert len(found.train) + len(found.validation) == 35
        assert problems(found)["no_class"] == (rows[-1].split(",")[0],)
        names = [found.labels[target] for target in found.train.targets]
        assert names == [COLOURS[int(one.mean((0, 1)).argmax())] for one in found.train.images]


def test_a_table_that_contradicts_the_folders_is_refused(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\ntrain/red/0.png,blue\ntrain/red/1.png,red\n")
    with pytest.raises(DataError, match=r"do not agree on the class of train/red/0.png \(blue, or red\)"):
        dataset.load(str(folder))
    (folder / "labels.csv").write_text("file,label\ntrain/red/0.png,red\ntrain/red/1.png,red\n")
    found = dataset.load(str(folder))
    assert found.summary is not None
    assert found.summary.notes == ("the classes are the folders; labels.csv says the same",)


def test_a_table_of_something_else_is_told_and_not_used(folder: Path) -> None:
    (folder / "about.csv").write_text("file,photographer\ntrain/red/0.png,Ansel\ntrain/red/1.png,Dorothea\n")
    found = dataset.load(str(folder))
    assert found.labels == tuple(sorted(COLOURS))
    assert found.summary is not None
    assert found.summary.notes == ("about.csv is not used: the classes are the folders",)


def test_a_table_that_was_not_understood_is_named_where_it_is_missed(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(image("red"))
    (tmp_path / "labels.csv").write_text("one,two,three\n1.png,2,3\n")
    with pytest.raises(DataError, match=r"labels.csv is no table of files and labels"):
        dataset.load(str(tmp_path))


def test_numbers_in_a_table_and_of_folders_are_the_same_with_leading_zeros(tmp_path: Path) -> None:
    for label in ("00000", "00001"):
        (tmp_path / label).mkdir()
        for at in range(3):
            (tmp_path / label / f"{label}_{at}.png").write_bytes(image("red"))
        rows = "".join(f"{label}_{at}.png;{int(label)}\n" for at in range(3))
        (tmp_path / label / f"GT-{label}.csv").write_text(f"Filename;ClassId\n{rows}")
    assert dataset.load(str(tmp_path)).labels == ("00000", "00001")


def test_a_table_gives_loose_test_images_their_classes(tmp_path: Path) -> None:
    root = class_folder(tmp_path / "signs")
    for number, colour in enumerate(sorted(COLOURS)):
        (root / "train" / colour).rename(root / "train" / f"{number:05}")
        shutil.rmtree(root / "test" / colour)
    for number in range(4):
        (root / "test" / f"{number}.png").write_bytes(image("red", size=(8 + number, 8)))
    (root / "Test.csv").write_text("Width,Path,ClassId\n" + "".join(f"8,test/{n}.png,{n % 2}\n" for n in range(3)))
    data = dataset.load(str(root))
    assert data.labels == tuple(f"{number:05}" for number in range(len(COLOURS)))
    assert data.test is not None
    assert data.test.targets.tolist() == [0, 0, 1]
    assert data.summary is not None
    assert [problem.files for problem in data.summary.problems if problem.kind == "no_class"] == [("test/3.png",)]


def test_two_tables_that_give_a_loose_image_two_classes_are_refused(tmp_path: Path) -> None:
    root = class_folder(tmp_path / "colours")
    shutil.rmtree(root / "test")
    (root / "test").mkdir()
    (root / "test" / "1.png").write_bytes(image("red"))
    for name, label in (("a.csv", "red"), ("b.csv", "blue")):
        (root / name).write_text(f"file,label\ntest/1.png,{label}\n")
    with pytest.raises(DataError, match=r"give test/1.png to test/red and to test/blue: keep one"):
        dataset.load(str(root))


@pytest.mark.parametrize("form", ["folder", "cache", "npz"])
def test_copies_of_an_image_are_held_out_together(tmp_path: Path, form: str) -> None:
    root = class_folder(tmp_path / "own", each=10) / "train"
    images = sorted(root.rglob("*.png"))
    for at in range(0, len(images), 2):
        shutil.copyfile(images[at], images[at + 1])
    where = root
    if form == "npz":
        data = dataset.load(str(root), validation_fraction=0.1)
        both = data.train.joined(data.validation)
        where = tmp_path / "own.npz"
        np.savez(where, x_train=both.images, y_train=both.targets)
    data = dataset.load(str(where), validation_fraction=0.3)
    if form == "cache":
        data = dataset.load(str(where), validation_fraction=0.3)
    pixels = [{image.tobytes() for image in split.images} for split in (data.train, data.validation)]
    assert all(pixels)
    assert not set.intersection(*pixels)
    assert set(data.train.targets.tolist()) == set(range(len(data.labels)))


def test_numbered_classes_agree_between_a_folder_and_arrays(tmp_path: Path) -> None:
    """Class 10 stands behind 9, so that the numbers of a NumPy file mean the same as the folders' names."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (48, 8, 8, 3), np.uint8), np.arange(48) % 12
    for at, (one, label) in enumerate(zip(x, y, strict=True)):
        (tmp_path / "numbers" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(tmp_path / "numbers" / str(label) / f"{at:02}.png")
    np.savez(tmp_path / "numbers.npz", x_train=x, y_train=y)
    folder = dataset.load(str(tmp_path / "numbers"))
    assert folder.labels == tuple(map(str, range(12)))
    arrays = dataset.load_for(card(folder), str(tmp_path / "numbers.npz"))
    by_image = {one.tobytes(): int(target) for one, target in zip(x, y, strict=True)}
    for data in (folder, arrays):
        for split in (data.train, data.validation):
            assert [by_image[one.tobytes()] for one in split.images] == split.targets.tolist()


def test_images_that_are_there_twice_are_named(folder: Path) -> None:
    shutil.copy(folder / "train" / "red" / "0.png", folder / "test" / "red" / "copy.png")
    shutil.copy(folder / "train" / "red" / "1.png", folder / "train" / "blue" / "copy.png")
    shutil.copy(folder / "train" / "red" / "2.png", folder / "train" / "red" / "copy.png")
    found = problems(dataset.load(str(folder)))
    assert found["duplicates_across_splits"] == ("train/red/0.png", "test/red/copy.png")
    assert set(found["duplicates_across_classes"]) == {"train/red/1.png", "train/blue/copy.png"}
    assert set(found["duplicates"]) == {"train/red/2.png", "train/red/copy.png"}


def test_the_size_is_that_of_upright_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for at in range(3):
            Image.new("RGB", (96, 64)).save(tmp_path / label / f"{at}.jpg", exif=exif)
    found = dataset.load(str(tmp_path))
    assert found.size == (96, 64)
    assert found.summary is not None
    assert found.summary.facts is not None
    assert found.summary.facts.largest == (96, 64)


def test_a_size_may_be_told_from_the_images_own(folder: Path, tmp_path: Path) -> None:
    for where in (folder, zipped(folder, tmp_path / "a.zip")):
        for _ in range(2):
            assert dataset.load(str(where), size=lambda own: (own[0] * 2, own[1] // 2)).size == (32, 8)


def test_class_folders_at_the_top(folder: Path) -> None:
    found = dataset.load(str(folder / "train"))
    assert found.test is None
    assert len(found.train) + len(found.validation) == 36


def test_a_validation_folder_is_used_as_it_is(folder: Path) -> None:
    shutil.copytree(folder / "test", folder / "val")
    found = dataset.load(str(folder))
    assert (len(found.train), len(found.validation)) == (36, 12)


def test_a_numpy_file(folder: Path, tmp_path: Path) -> None:
    whole = dataset.load(str(folder))
    assert whole.test is not None
    path = tmp_path / "colours.npz"
    np.savez(
        path,
        x_train=whole.train.images,
        y_train=whole.train.targets,
        x_validation=whole.validation.images,
        y_validation=whole.validation.targets[:, None],
        x_test=whole.test.images,
        y_test=whole.test.targets,
        labels=np.array(whole.labels),
    )
    found = dataset.load(str(path))
    assert found.labels == whole.labels
    assert all(same(getattr(found, name), getattr(whole, name)) for name in ("train", "validation", "test"))
    assert dataset.load(str(path), size=(8, 8)).size == (8, 8)


def test_cifar10_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras.datasets import cifar10

    x = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    y = np.arange(40)[:, None] % 10
    monkeypatch.setattr(cifar10, "load_data", lambda: ((x, y), (x[:10], y[:10])))
    found = dataset.load("cifar10")
    assert found.labels == arrays.CIFAR10
    assert (len(found.train), len(found.validation), found.test and len(found.test)) == (30, 10, 10)

    def fail() -> None:
        raise OSError("URL fetch failure")

    monkeypatch.setattr(cifar10, "load_data", fail)
    with pytest.raises(DataError, match="URL fetch failure"):
        dataset.load("cifar10")


def test_the_split_is_fixed_and_stratified(folder: Path) -> None:
    first, second = dataset.load(str(folder)), dataset.load(str(folder))
    assert same(first.validation, second.validation)
    assert np.bincount(first.validation.targets).tolist() == [1, 1, 1]
    half = dataset.load(str(folder), validation_fraction=0.5)
    assert np.bincount(half.validation.targets).tolist() == [6, 6, 6]


def test_the_second_time_comes_from_the_cache(folder: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    first = dataset.load(str(folder), progress=lambda done, total: seen.append(done))
    assert seen[-1] == 48
    seen.clear()
    assert same(dataset.load(str(folder), progress=lambda done, total: seen.append(done)).train, first.train)
    assert seen == []
    for file in (tmp_path / "cache").rglob("*.pixels"):
        file.write_bytes(b"damaged")
    assert same(dataset.load(str(folder)).train, first.train)
    (folder / "train" / "red" / "0.png").write_bytes(image("red", (16, 16)))
    assert dataset.load(str(folder)).checksum != first.checksum


def test_images_of_many_sizes_are_brought_to_one(tmp_path: Path) -> None:
    for colour in COLOURS:
        folder = tmp_path / "mixed" / colour
        folder.mkdir(parents=True)
        for i, size in enumerate([(40, 60), (50, 50), (80, 64)]):
            (folder / f"{i}.jpg").write_bytes(image(colour, size, "JPEG"))
    assert dataset.load(str(tmp_path / "mixed")).size == (50, 50)
    for colour in COLOURS:  # the median of the images, not of the sizes that there are
        for i in range(3, 9):
            (tmp_path / "mixed" / colour / f"{i}.jpg").write_bytes(image(colour, (32, 32), "JPEG"))
    assert dataset.load(str(tmp_path / "mixed")).size == (32, 32)
    assert dataset.load(str(tmp_path / "mixed"), size=(24, 32)).size == (24, 32)


def test_training_decodes_as_serving_does(tmp_path: Path) -> None:
    """The golden test: what the network is trained on is byte for byte what it is served."""
    import asyncio

    kinds = [("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "P"), ("PNG", "RGBA"), ("WEBP", "RGB")]
    kinds += [("AVIF", "RGB"), ("TIFF", "F"), ("PNG", "I;16"), ("TIFF", "I;16"), ("GIF", "P"), ("BMP", "RGB")]
    rng = np.random.default_rng(0)
    sent: dict[str, list[bytes]] = {"a": [], "b": []}
    for label, some in sent.items():
        (tmp_path / "golden" / label).mkdir(parents=True)
        for i, (kind, mode) in enumerate(kinds):
            made = Image.fromarray(rng.integers(0, 256, (37 + i, 53, 3), dtype=np.uint8))
            if mode == "I;16":
                made = Image.fromarray(rng.integers(0, 4096, (37 + i, 53), dtype=np.uint16))
            exif = Image.Exif()
            exif[0x0112] = 1 + i % 8
            out = io.BytesIO()
            (made if mode == "I;16" else made.convert(mode)).save(out, kind, exif=exif)
            some.append(out.getvalue())
            (tmp_path / "golden" / label / f"{i}.{kind.lower()}").write_bytes(out.getvalue())
    for resize_mode in preprocessing.RESIZE_MODES:
        found = dataset.load(str(tmp_path / "golden"), size=(32, 32), resize_mode=resize_mode)
        trained = {x.tobytes() for split in (found.train, found.validation) for x in split.images}
        card = Card(name="golden", labels=("a", "b"), height=32, width=32, resize_mode=resize_mode)
        flat = [one for some in sent.values() for one in some]
        with decoder(threads=2) as decodes:
            served = {asyncio.run(decodes.one(one, Target(card), Caller())).tobytes() for one in flat}
        assert len(served) == 2 * len(kinds)
        assert served == trained


def problems(of: dataset.Dataset) -> dict[str, tuple[str, ...]]:
    """The files that each kind of problem is about."""
    assert of.summary is not None
    found: dict[str, tuple[str, ...]] = {}
    for problem in of.summary.problems:
        found[problem.kind] = (*found.get(problem.kind, ()), *problem.files)
    return found


def test_unreadable_images_are_named_and_skipped(folder: Path) -> None:
    (folder / "train" / "red" / "bad.png").write_bytes(b"text")
    (folder / "train" / "red" / "cut.jpg").write_bytes(image("red", (64, 64), "JPEG")[:640])
    (folder / "train" / "red" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    for _ in range(2):  # from the cache, too
        found = dataset.load(str(folder))
        assert found.skipped == 3
        names = [f"train/red/{name}" for name in ("bad.png", "cut.jpg", "phone.heic")]
        assert sorted(problems(found)["unreadable"]) == names
        assert any("convert it to JPEG" in problem.message for problem in found.summary.problems)  # type: ignore[union-attr]
        assert len(found.train) + len(found.validation) == 36


def test_a_class_of_which_nothing_can_be_read_is_left_out(folder: Path) -> None:
    for file in folder.rglob("red/*.png"):
        file.write_bytes(b"damaged")
    for _ in range(2):
        found = dataset.load(str(folder))
        assert found.labels == ("blue", "green")
        assert problems(found)["empty_class"] == ("red",)
        names = [found.labels[target] for target in found.train.targets]
        assert names == [COLOURS[int(image.mean((0, 1)).argmax())] for image in found.train.images]


def test_images_beside_the_splits_are_named_and_skipped(folder: Path) -> None:
    """Someone adds a class, in the wrong place."""
    (folder / "violet").mkdir()
    (folder / "violet" / "lost.png").write_bytes(image("red"))
    found = dataset.load(str(folder))
    assert "violet" not in found.labels
    assert problems(found) == {"outside_splits": ("violet/lost.png",)}


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir

    def iterdir(place: Path) -> Iterator[Path]:  # the superuser, whom tests may run as, can list every folder
        if place.name == "red":
            raise PermissionError(13, "Permission denied", str(place))
        return listed(place)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = dataset.load(str(folder))
    assert found.labels == ("blue", "green")
    assert problems(found) == {"unreadable_folder": ("test/red", "train/red")}


def test_an_empty_class_is_left_out_whatever_the_cache_has(folder: Path) -> None:
    whole = dataset.load(str(folder))
    (folder / "train" / "grey").mkdir()
    for _ in range(2):
        found = dataset.load(str(folder))
        assert found.labels == whole.labels
        assert found.checksum == whole.checksum
        assert problems(found)["empty_class"] == ("train/grey",)


def test_labels_of_a_model_set_the_order(folder: Path) -> None:
    order = ("red", "green", "blue", "grey")
    found = dataset.load(str(folder), labels=order)
    assert found.labels == order
    assert order[int(found.train.targets[0])] == COLOURS[int(found.train.images[0].mean((0, 1)).argmax())]
    with pytest.raises(DataError, match="does not know: green"):
        dataset.load(str(folder), labels=("red", "blue"))


def test_choosing_a_split(folder: Path) -> None:
    found = dataset.load(str(folder))
    other = card(found, checksum="sha256:0")
    assert dataset.choose(found, None, other)[0] == "test"
    assert len(dataset.choose(found, "all", other)[1]) == 48
    without = dataset.load(str(folder / "train"))
    assert dataset.choose(without, None, other)[0] == "all"
    assert dataset.choose(without, None, card(without))[0] == "validation"
    kept = dataset.load(str(folder / "train"), test_fraction=0.2)
    assert dataset.choose(kept, None, card(kept))[0] == "test"
    assert dataset.choose(kept, None, other)[0] == "all"  # a part of other data is worth no more than the rest
    with pytest.raises(UsageError, match="no test split"):
        dataset.choose(without, "test", other)


def card(of: dataset.Dataset, **facts: Any) -> Card:
    """That of a model trained on those data."""
    return Card("model", of.labels, *of.size, of.resize_mode, data=replace(of.describe(), **facts))


def test_a_bundle_is_judged_by_images_that_it_was_not_trained_on(tmp_path: Path) -> None:
    """Whatever part was held out, of classes of any size, and in whatever order the card has them."""
    root = tmp_path / "uneven"
    rng = np.random.default_rng(0)
    for label, count in {"a": 4, "b": 60, "c": 7}.items():
        (root / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(root / label / f"{i}.png")
    trained = dataset.load(str(root), validation_fraction=0.3)
    facts = trained.describe()
    turned = Card("model", ("c", "a", "b"), 8, 8, data=facts)
    again = dataset.load_for(turned, str(root))
    assert again.labels == turned.labels
    for one, other in ((trained.train, again.train), (trained.validation, again.validation)):
        np.testing.assert_array_equal(one.images, other.images)
        assert [trained.labels[i] for i in one.targets] == [again.labels[i] for i in other.targets]


def test_a_part_is_kept_for_testing_where_there_is_enough(tmp_path: Path) -> None:
    few = dataset.load(str(class_folder(tmp_path / "few", each=dataset.LEAST_FOR_TEST - 1) / "train"))
    assert few.test is None
    assert few.held_out == (0.1, 0.0)
    enough = dataset.load(str(class_folder(tmp_path / "enough", each=dataset.LEAST_FOR_TEST) / "train"))
    assert enough.test is not None
    assert enough.held_out == (0.1, 0.1)
    assert [len(split) for split in (enough.train, enough.validation, enough.test)] == [48, 6, 6]
    assert dataset.load(str(tmp_path / "enough")).held_out == (0.1, 0.0)  # that has a test split of its own


def bad(tmp_path: Path, name: str) -> str:
    root = tmp_path / "bad"
    root.mkdir()
    if name == "absent":
        return str(root / "absent")
    if name == "text":
        (root / "notes.txt").write_text("x")
        return str(root / "notes.txt")
    if name == "empty folder":
        return str(root)
    if name == "one class":
        (root / "only").mkdir()
        for i in range(3):
            (root / "only" / f"{i}.png").write_bytes(image())
    if name in ("all unreadable", "lonely"):
        class_folder(root)
    if name == "all unreadable":
        for file in root.rglob("*.png"):
            file.write_bytes(b"x")
    if name == "lonely":
        for file in list((root / "train" / "red").iterdir())[1:]:
            file.unlink()
    if name in ("climbing zip", "absolute zip"):
        with zipfile.ZipFile(root / "a.zip", "w") as archive:
            archive.writestr("../up/a.png" if name == "climbing zip" else "/up/a.png", image())
        return str(root / "a.zip")
    if name == "climbing tar":
        with tarfile.open(root / "a.tar", "w") as tar:
            entry = tarfile.TarInfo("train/../../a.png")
            entry.size = len(image())
            tar.addfile(entry, io.BytesIO(image()))
        return str(root / "a.tar")
    if name in ("broken zip", "broken tar", "broken npz"):
        path = root / f"a.{name.split()[1]}"
        path.write_bytes(b"PK nothing")
        return str(path)
    if name == "float npz":
        np.savez(root / "a.npz", x_train=np.zeros((4, 8, 8, 3)), y_train=np.zeros(4, int))
        return str(root / "a.npz")
    if name == "short npz":
        np.savez(root / "a.npz", x_train=np.zeros((4, 8, 8, 3), np.uint8), y_train=np.zeros(3, int))
        return str(root / "a.npz")
    if name == "empty npz":
        (root / "a.npz").write_bytes(b"")
        return str(root / "a.npz")
    if name == "npy as npz":
        np.save(root / "a.npy", np.zeros(3))
        os.rename(root / "a.npy", root / "a.npz")
        return str(root / "a.npz")
    if name == "pickles":
        np.savez(root / "a.npz", x_train=np.array([{}], dtype=object))
        return str(root / "a.npz")
    if name in ("twins", "sizes", "no height"):
        x, y = np.zeros((8, 8, 8, 3), np.uint8), np.arange(8) % 2
        more = {"labels": np.array(["a", "a"])} if name == "twins" else {}
        if name == "sizes":
            more = {"x_test": np.zeros((2, 9, 9, 3), np.uint8), "y_test": np.arange(2)}
        np.savez(root / "a.npz", x_train=x[:, :0] if name == "no height" else x, y_train=y, **more)  # type: ignore[arg-type]
        return str(root / "a.npz")
    if name in ("far npz", "unsigned npz"):
        y = np.array([0, 1, 0, 2**63 if name == "unsigned npz" else 2 * 10**9], np.uint64)
        np.savez(root / "a.npz", x_train=np.zeros((4, 8, 8, 3), np.uint8), y_train=y)
        return str(root / "a.npz")
    if name in ("huge npz", "open npz", "garbled npz"):
        path = root / "a.npz"
        np.savez_compressed(path, x_train=np.zeros((4, 8, 8, 3), np.uint8), y_train=np.zeros(4, int))
        with zipfile.ZipFile(path) as packed:
            inside, part = packed.read("x_train.npy"), packed.getinfo("x_train.npy")
        if name == "garbled npz":
            whole = bytearray(path.read_bytes())
            begin = part.header_offset + 30 + len(part.filename) + 20
            whole[begin : begin + 4] = b"\xff" * 4
            path.write_bytes(whole)
        else:
            shape = b"(4, 8, 8, 3), }" + 11 * b" "
            other = b"(999999999999, 8, 8, 3), }" if name == "huge npz" else shape.replace(b"}", b" ")
            assert shape in inside
            assert len(shape) == len(other)
            with zipfile.ZipFile(path, "w") as packed:
                packed.writestr("x_train.npy", inside.replace(shape, other))
        return str(path)
    if name == "other npz":
        np.savez(root / "a.npz", means=np.zeros(3))
        return str(root / "a.npz")
    if name == "no labels":
        np.savez(root / "a.npz", images=np.zeros(3))
        return str(root / "a.npz")
    return str(root)


def test_class_folders_at_the_top_may_have_test_beside_them(folder: Path) -> None:
    for colour in COLOURS:
        shutil.move(folder / "train" / colour, folder / colour)
    (folder / "train").rmdir()
    found = dataset.load(str(folder))
    assert (len(found.train) + len(found.validation), found.test and len(found.test)) == (36, 12)


def test_a_linked_class_folder_is_a_class_folder(folder: Path, tmp_path: Path) -> None:
    whole = dataset.load(str(folder))
    linked = tmp_path / "linked"
    (linked / "train").mkdir(parents=True)
    for split in ("train", "test"):
        (linked / split).mkdir(exist_ok=True)
        for place in (folder / split).iterdir():
            (linked / split / place.name).symlink_to(place)
    again = dataset.load(str(linked))
    assert again.checksum == whole.checksum
    assert same(again.train, whole.train)


def test_a_name_of_any_bytes_is_a_name_of_text(folder: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/d\xff"
    os.symlink(folder, path)
    assert dataset.load(os.fsdecode(path)).name == "d?"


def test_what_is_no_file_is_named_or_passed_over(folder: Path) -> None:
    os.mkfifo(folder / "train" / "red" / "pipe.png")
    (folder / "train" / "red" / "gone.png").symlink_to("nowhere")
    (folder / "train" / "red" / "round.png").symlink_to("round.png")
    found = dataset.load(str(folder))
    assert len(found.train) + len(found.validation) == 36
    assert set(problems(found)["unreadable"]) == {"train/red/gone.png", "train/red/round.png"}


def test_backslashes_in_a_zip_part_folders(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "windows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            entry = zipfile.ZipInfo("x")
            entry.filename = str(file.relative_to(folder)).replace("/", "\\")
            archive.writestr(entry, file.read_bytes())
    assert len(dataset.load(str(path)).validation) == 3


def test_a_damaged_cache_is_made_anew(folder: Path, tmp_path: Path) -> None:
    whole = dataset.load(str(folder))
    for damage in (b"", b"{}", b"[]"):
        for file in (tmp_path / "cache").rglob("*.*"):
            file.write_bytes(damage)
        assert same(dataset.load(str(folder)).train, whole.train)


def test_more_than_memory_holds_streams_from_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images, in the same splits; and once more, from what was kept of them."""
    (folder / "train" / "red" / "broken.png").write_bytes(b"no image")
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "first"))
    whole = dataset.load(str(folder))
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "second"))
    for _ in range(2):
        streamed = dataset.load(str(folder))
        kinds = [type(split.images) for split in (streamed.train, streamed.validation, streamed.test) if split]
        assert kinds == [Rows, Rows, np.memmap]
        for split in ("train", "validation", "test"):
            assert same(getattr(streamed, split), getattr(whole, split))
        assert (streamed.size, streamed.labels, problems(streamed)) == (whole.size, whole.labels, problems(whole))
        assert streamed.skipped == 1
        some = np.array([3, 1, 2])
        assert np.array_equal(streamed.train.images[some], whole.train.images[some])
        assert np.array_equal(streamed.train.images[2:5], whole.train.images[2:5])
    every, in_memory = (dataset.choose(one, "all", card(one))[1] for one in (streamed, whole))
    assert type(every.images).__name__ == "Rows"  # it was not read whole
    assert same(every, in_memory)
    assert np.array_equal(every.images[-3:], in_memory.images[-3:])
    assert np.array_equal(every.images[20], in_memory.images[20])


def test_what_a_killed_process_left_in_the_cache_is_removed_in_time(folder: Path, tmp_path: Path) -> None:
    for name, age in (("old", 2 * 86400), ("new", 60)):
        left = tmp_path / "cache" / f"staged-{name}"
        left.mkdir(parents=True)
        os.utime(left, (time.time() - age,) * 2)
    dataset.load(str(folder))
    assert [path.name for path in (tmp_path / "cache").glob("staged-*")] == ["staged-new"]


def test_a_disk_that_cannot_take_the_stream_is_said_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"more than memory holds, and .* cannot take them \(Not a directory\)"):
        dataset.load(str(folder))


def test_a_tar_that_is_damaged_is_not_taken_for_a_shorter_one(folder: Path, tmp_path: Path) -> None:
    path = tarred(folder, tmp_path / "damaged.tar")
    whole = bytearray(path.read_bytes())
    headers = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    whole[headers[len(headers) // 2] + 148] ^= 1  # its checksum
    path.write_bytes(whole)
    with pytest.raises(DataError, match="cut short or damaged"):
        dataset.load(str(path))
    path.write_bytes(tarred(folder, tmp_path / "whole.tar").read_bytes()[: headers[-3]])
    with pytest.raises(DataError, match="cut short or damaged"):
        dataset.load(str(path))


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("absent", UsageError, "there are no data"),
        ("text", UsageError, "of no known kind"),
        ("empty folder", DataError, "there are no images: expected train/<class>"),
        ("one class", DataError, "one class only, 'only'"),
        ("all unreadable", DataError, "none of the 48 images"),
        ("lonely", DataError, "class 'red' has 1 readable"),
        ("climbing zip", DataError, "climbs out"),
        ("absolute zip", DataError, "climbs out"),
        ("climbing tar", DataError, "climbs out"),
        ("broken zip", DataError, "cannot be read as an archive"),
        ("broken tar", DataError, "cannot be read as an archive"),
        ("broken npz", DataError, "not a NumPy archive"),
        ("float npz", DataError, "must be uint8"),
        ("short npz", DataError, "one whole number"),
        ("far npz", DataError, "goes up to 2000000000: number the classes from 0"),
        ("unsigned npz", DataError, "goes up to 9223372036854775808"),
        ("huge npz", DataError, "not a NumPy archive"),
        ("open npz", DataError, "not a NumPy archive"),
        ("garbled npz", DataError, "not a NumPy archive"),
        ("other npz", DataError, "has no x_train"),
        ("no labels", DataError, "labels of images must hold"),
        ("empty npz", DataError, "not a NumPy archive"),
        ("npy as npz", DataError, "holds one array"),
        ("pickles", DataError, "Python objects"),
        ("twins", DataError, "'a' cannot name a class"),
        ("sizes", DataError, "differ in size"),
        ("no height", DataError, "must be uint8"),
    ],
)
def test_bad_data_are_refused_in_one_line(tmp_path: Path, name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        dataset.load(bad(tmp_path, name))
    assert "\n" not in str(caught.value)
