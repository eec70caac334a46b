from __future__ import annotations

from collections import Counter

import pytest

from contract.errors import DataError
from training.data.layout import Layout, arrange


def images(*folders: str, each: int = 2) -> list[str]:
    """Names of images in those folders."""
    return [f"{folder}/{number}.jpg".removeprefix("/") for folder in folders for number in range(each)]


def classes(layout: Layout) -> dict[str, list[str]]:
    """The classes of each split."""
    found: dict[str, list[str]] = {}
    for split, label in sorted({(place.split, place.label) for place in layout.places}):
        found.setdefault(split, []).append(label)
    return found


def left_out(layout: Layout) -> dict[str, tuple[str, ...]]:
    return {problem.kind: problem.files for problem in layout.problems}


BOTH = {"test": ["cat", "dog"], "train": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("training_set", "test_set"),
        ("training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("TrainSet", "TestSet"),
        ("train data", "test data"),
        ("train2017", "test2017"),
        ("pets/train/images", "pets/test/images"),
        ("a/b/train", "a/b/holdout"),
        ("train", "eval"),
        ("entrenamiento", "prueba"),
        ("训练集", "测试集"),
        ("pets_train", "pets_test"),
        ("PetsTrain", "PetsTest"),
        ("train-pets/train-pets", "test-pets/test-pets"),
    ],
)
def test_splits_of_many_names(train: str, test: str) -> None:
    names = images(*(f"{split}/{label}" for split in (train, test) for label in ("cat", "dog")))
    layout = arrange(names)
    assert classes(layout) == BOTH
    assert layout.problems == ()
    wrong = {place.name for place in layout.places if place.name.startswith(test) != (place.split == "test")}
    assert not wrong
    said = " ".join(layout.notes)
    for name in (train, test):
        folder = next(part for part in name.split("/") if part not in {"pets", "a", "b"})  # the split's
        assert folder in {"train", "test"} or folder in said  # what was guessed is told


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev", "dev_set", "development"])
def test_validation_of_many_names(name: str) -> None:
    layout = arrange(images("train/cat", "train/dog", f"{name}/cat", f"{name}/dog"))
    assert classes(layout) == {"train": ["cat", "dog"], "validation": ["cat", "dog"]}


def test_eval_is_validation_beside_test_and_test_without() -> None:
    assert "validation" in classes(arrange(images("train/cat", "train/dog", "eval/cat", "test/cat")))
    assert "test" in classes(arrange(images("train/cat", "train/dog", "eval/cat", "val/cat")))


@pytest.mark.parametrize("wrapper", ["", "pets/", "a/b/c/"])
def test_class_folders_alone_are_for_training(wrapper: str) -> None:
    layout = arrange(images(f"{wrapper}cat", f"{wrapper}dog"))
    assert classes(layout) == {"train": ["cat", "dog"]}
    assert {place.key for place in layout.places} == {"0.jpg", "1.jpg"}


def test_class_folders_may_have_test_beside_them() -> None:
    assert classes(arrange(images("cat", "dog", "test/cat", "test/dog"))) == BOTH


def test_classes_may_hold_the_splits() -> None:
    layout = arrange(images("cat/train", "cat/test", "dog/train", "dog/test"))
    assert classes(layout) == BOTH
    assert layout.notes == ("the folders of classes hold those of splits: train/ and test/",)
    assert layout.places[0].key == "0.jpg"  # as in train/cat/0.jpg: the same data


def test_a_class_called_train_is_one_beside_other_vehicles() -> None:
    vehicles = ["bus", "car", "train"]
    assert classes(arrange(images(*vehicles))) == {"train": vehicles}
    assert classes(arrange(images(*(f"train/{name}" for name in vehicles)))) == {"train": vehicles}
    both = images(*(f"{split}/{name}" for split in ("train", "test") for name in vehicles))
    assert classes(arrange(both)) == {"test": vehicles, "train": vehicles}
    turned = images(*(f"{name}/{split}" for split in ("train", "test") for name in vehicles))
    assert classes(arrange(turned)) == {"test": vehicles, "train": vehicles}


def test_the_folders_of_a_class_are_part_of_it() -> None:
    layout = arrange(images("cat/indoor", "dog/park", "dog/street", "fox"))
    assert classes(layout) == {"train": ["cat", "dog", "fox"]}
    assert layout.notes == ("folders in a class's folder are part of it: cat/indoor, dog/park, dog/street",)
    assert {place.key for place in layout.places if place.label == "cat"} == {"indoor/0.jpg", "indoor/1.jpg"}


def test_two_splits_with_the_same_classes_tell_which_level_these_are() -> None:
    names = [f"{split}/{label}/{place}" for split in ("train", "test") for label in ("cat", "dog") for place in "ab"]
    assert classes(arrange(images(*names))) == BOTH


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (("A/cat", "A/dog", "B/cat", "B/dog"), "A/ and B/ hold folders of the same names (cat, dog)"),
        (("2023/cat", "2023/dog", "2024/cat"), "2023/ and 2024/ hold folders of the same names (cat)"),
        (("cat/indoor", "cat/outdoor", "dog/indoor", "dog/outdoor"), "(indoor, outdoor)"),
        (("train/A/cat", "train/A/dog", "train/B/cat"), "train/A/ and train/B/ hold folders of the same names"),
        (("train/cat", "train/dog", "extra/cat", "extra/dog"), "extra/ holds the same classes (cat, dog) as train/"),
        (("lernstoff/cat", "lernstoff/dog", "test/cat"), "lernstoff/ holds the same classes (cat) as test/"),
        (("train/cat", "train/dog", "val/cat", "dev/cat"), "val/ and dev/ are both named as the validation split"),
        (("a/train/cat", "a/train/dog", "b/train/cat"), "several data sets"),
        (("cat/train", "cat/test", "dog"), "cat/ holds train/ and test/, but dog/ does not"),
        (("train", "test"), "train/ (2 images) and test/ (2 images) without class folders"),
        (("train",), "train/ (2 images) without class folders"),
        (("cat", "dog", "train", "test"), "train/ (2 images) and test/ (2 images) without class folders"),
        (("",), "the images stand in no class folders (0.jpg, 1.jpg)"),
        (("all/pictures",), "one class"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(folders: tuple[str, ...], says: str) -> None:
    if says == "one class":  # it is a class: that there is one only is told later, by its name
        assert classes(arrange(images(*folders))) == {"train": ["pictures"]}
        return
    with pytest.raises(DataError) as caught:
        arrange(images(*folders))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_without_a_class_are_left_out_by_name() -> None:
    layout = arrange([*images("train/cat", "train/dog"), "train/stray.jpg", "cover.jpg", *images("test")])
    assert classes(layout) == {"train": ["cat", "dog"]}
    found = {name for problem in layout.problems if problem.kind == "no_class" for name in problem.files}
    assert found == {"train/stray.jpg", "cover.jpg", "test/0.jpg", "test/1.jpg"}


def test_what_stands_beside_the_splits_is_left_out_by_name() -> None:
    layout = arrange(images("train/cat", "train/dog", "violet"))
    assert left_out(layout) == {"outside_splits": ("violet/0.jpg", "violet/1.jpg")}
    layout = arrange(images("data/train/cat", "data/train/dog", "samples"))
    assert left_out(layout) == {"outside_splits": ("samples/0.jpg", "samples/1.jpg")}


def test_a_split_may_be_wrapped_beside_stray_images() -> None:
    layout = arrange([*images("train/train/cat", "train/train/dog"), "train/stray.jpg"])
    assert classes(layout) == {"train": ["cat", "dog"]}
    assert left_out(layout) == {"no_class": ("train/stray.jpg",)}
    layout = arrange(images("asl_train/asl_train/a", "asl_train/asl_train/b", "asl_test/asl_test"))
    assert classes(layout) == {"train": ["a", "b"]}
    assert left_out(layout) == {"no_class": ("asl_test/asl_test/0.jpg", "asl_test/asl_test/1.jpg")}


def test_models_among_the_images_are_no_classes() -> None:
    """`train --data .` publishes to a folder in there."""
    model = "out/pets/1"
    layout = arrange(
        images("cat", "dog", f"{model}/report"), ["out", model], [f"{model}/card.json", f"{model}/model.onnx"]
    )
    assert classes(layout) == {"train": ["cat", "dog"]}
    assert left_out(layout) == {"empty_class": ("out",), "system_files": (model,)}


def test_folders_without_end_are_refused() -> None:
    with pytest.raises(DataError, match="deeper than 100 folders"):
        arrange(["a/" * 5000 + "1.jpg"])


def test_empty_class_folders_are_left_out_by_name() -> None:
    layout = arrange(images("train/cat", "train/dog"), ["train", "train/cat", "train/fox", "test"])
    assert [problem.files for problem in layout.problems if problem.kind == "empty_class"] == [
        ("train/fox",),
        ("test",),
    ]
    assert left_out(arrange(images("cat", "dog"), ["cat", "fox"])) == {"empty_class": ("fox",)}


def test_systems_own_folders_are_no_classes_and_litter_goes_without_saying() -> None:
    names = [*images("cat", "dog", "@eaDir", "$RECYCLE.BIN", "cat/@eaDir", ".git"), "cat/._0.jpg", "dog/.old.jpg"]
    layout = arrange(names, ["lost+found"], [".DS_Store", "cat/Thumbs.db", "desktop.ini"])
    assert classes(layout) == {"train": ["cat", "dog"]}
    assert set(left_out(layout)) == {"system_files"}
    assert set(left_out(layout)["system_files"]) == {
        "lost+found", "@eaDir", "$RECYCLE.BIN", "cat/@eaDir", ".git", "dog/.old.jpg",
    }  # fmt: skip


def test_other_files_in_class_folders_are_named() -> None:
    layout = arrange(images("cat", "dog"), [], ["cat/notes.xml", "README.md"])
    assert left_out(layout) == {"not_an_image": ("cat/notes.xml",)}


def test_names_are_composed() -> None:
    """A Mac writes é as two characters."""
    layout = arrange(images("train/cafe\u0301", "train/th\u00e9", "test/caf\u00e9"))
    assert Counter(place.label for place in layout.places) == {"caf\u00e9": 4, "th\u00e9": 2}
