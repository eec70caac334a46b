from __future__ import annotations

import pytest

from contract.errors import DataError
from training.data import tables

IMAGES = ["images/1.jpg", "images/2.jpg", "images/3.png"]
FIND = tables.Finder(IMAGES)


@pytest.mark.parametrize(
    "text",
    [
        "file,label\n1.jpg,cat\n2.jpg,dog\n3.png,dog\n",
        "1.jpg,cat\n2.jpg,dog\n3.png,dog",
        "images/1.jpg;cat\r\nimages/2.jpg;dog\r\nimages/3.png;dog\r\n",
        "\ufeffid,breed\n1,cat\n2,dog\n3,dog\n",
        "label\tpath\ncat\t./images/1.jpg\ndog\timages\\2.jpg\ndog\timages/3.png\n",
        '"image","age","category"\n"1.jpg",3,"cat"\n"2.jpg",4,"dog"\n"3.png",5,"dog"\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_of_labels(text: str, encoding: str) -> None:
    read = tables.read("labels.csv", text.encode(encoding), FIND)
    assert read is not None
    assert read.labels == {"images/1.jpg": {"cat"}, "images/2.jpg": {"dog"}, "images/3.png": {"dog"}}


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xff\xff", b"width,height\n1,2\n3,4\n", b"file,label\nother.jpg,cat\n", b"file\n1.jpg\n", b"\0,\0\n"],
)
def test_other_tables_are_none(data: bytes) -> None:
    assert tables.read("labels.csv", data, tables.Finder(["images/10.jpg"])) is None


def test_a_table_may_say_the_split_and_folders_do_where_it_does_not() -> None:
    said = tables.read("labels.csv", b"file,label,split\n1.jpg,cat,train\n2.jpg,dog,Testing\n3.png,dog,val\n", FIND)
    assert said is not None
    assert [row[3] for row in said.rows] == ["train", "test", "validation"]
    names = ["train/1.jpg", "test/2.jpg"]
    by_folder = tables.read("labels.csv", b"train/1.jpg,cat\ntest/2.jpg,dog\n", tables.Finder(names))
    assert by_folder is not None
    assert {place.name: place.split for place in tables.arrange([by_folder], names).places} == {
        "train/1.jpg": "train",
        "test/2.jpg": "test",
    }


def test_what_a_table_leaves_open_is_named() -> None:
    data = b"file,label\n1.jpg,cat\n1.jpg,dog\n2.jpg,dog\n9.jpg,cat\n3,png,dog\n"
    read = tables.read("labels.csv", data, FIND)
    assert read is not None
    layout = tables.arrange([read], IMAGES)
    assert [place.name for place in layout.places] == ["images/2.jpg"]
    assert {problem.kind: problem.files for problem in layout.problems} == {
        "label_conflict": ("images/1.jpg",),
        "missing_file": ("9.jpg", "3,png,dog"),
        "no_class": ("images/3.png",),
    }


def test_two_tables_are_for_two_splits() -> None:
    one, other = (tables.read(f"{name}.csv", b"1.jpg,cat\n2.jpg,dog\n", FIND) for name in ("a", "b"))
    assert one is not None
    assert other is not None
    with pytest.raises(DataError, match="both label images"):
        tables.arrange([one, other], IMAGES)
    train = tables.read("train.csv", b"1.jpg,cat\n2.jpg,dog\n", FIND)
    test = tables.read("test.csv", b"3.png,dog\n", FIND)
    assert train is not None
    assert test is not None
    layout = tables.arrange([train, test], IMAGES)
    assert [place.split for place in layout.places] == ["train", "train", "test"]
