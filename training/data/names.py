"""What folders' names say: which split one is, how classes are sorted, what can name a class."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

SPLITS: Final = ("train", "validation", "test")

_WORDS: Final = {
    "train": "train|training|trn|learn|learning|entrenamiento|entrainement|apprentissage|treino|treinamento|"
    "addestramento|обучение|обучающая|训练|訓練|学習|훈련|학습|آموزش",
    "validation": "val|valid|validate|validation|validating|vali|dev|devel|development|validierung|"
    "validacion|validacao|validazione|валидация|验证|驗證|検証|검증|اعتبارسنجی",
    "test": "test|testing|tests|tst|holdout|heldout|prueba|pruebas|teste|testes|prufung|тест|тестовая|测试|測試|"
    "テスト|테스트|시험|آزمون",
    "": "eval|evaluation|evaluate",
}
"""By split, the words of one; the last are of validation or testing, whichever is not there otherwise."""
_BESIDE: Final = (
    "set|sets|data|dataset|split|splits|subset|part|folder|dir|image|images|img|imgs|picture|pictures|pic|pics|photo|"
    "photos|sample|samples|seg|集|데이터|데이터셋"
)
_SPLIT: Final = {
    split: re.compile(rf"(?:my|the|new|final|{_BESIDE})*(?:{words})(?:{_BESIDE})*\d*")
    for split, words in _WORDS.items()
}
_DIGITS: Final = re.compile(r"(\d+)")
_BETWEEN_WORDS: Final = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_NUMBER: Final = re.compile(r"[+-]?\d+")
_REORDERING: Final = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the text around them about (Unicode Standard Annex 9)."""


def split_of(folder: str) -> str | None:
    """The split that a folder's name is the name of.

    Args:
        folder: one folder's name: `Training`, `test_set`, `dev`, `seg_train`, `val2017`.

    Returns:
        `train`, `validation` or `test`; empty for `eval`, which is either of the last two; None for any other name.

    Example:
        >>> split_of("Test Set")
        'test'
    """
    decomposed = unicodedata.normalize("NFKD", folder.casefold())
    word = "".join(c for c in decomposed if not unicodedata.combining(c) or unicodedata.combining(c) == 8)
    word = re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", word))
    return next((split for split, pattern in _SPLIT.items() if pattern.fullmatch(word)), None)


def splits_of(folders: Iterable[str]) -> dict[str, str | None]:
    """What `split_of` says of sibling folders; of those, too, that differ in the split's word alone.

    Example:
        >>> splits_of(["pets_train", "pets_test", "other"])
        {'pets_train': 'train', 'pets_test': 'test', 'other': None}
    """
    splits = {name: split_of(name) for name in folders}
    alike: dict[tuple[int, tuple[str, ...]], dict[str, str]] = {}
    for name in [name for name, split in splits.items() if split is None]:
        words = [word for word in _BETWEEN_WORDS.split(name) if word]
        for at, rest in ((0, words[1:]), (-1, words[:-1])):
            split = split_of(words[at]) if rest else None
            if split is not None:
                alike.setdefault((at, tuple(rest)), {})[name] = split
    for group in alike.values():
        if len(set(group.values())) > 1:
            splits.update(group)
    return splits


def natural(label: str) -> tuple[object, ...]:
    """A key that sorts class names as people do: 1, 2, 10, and `class 2` before `class 10`; capitals count as small."""
    if _NUMBER.fullmatch(label):
        return (0, int(label), label)
    pieces = _DIGITS.split(label.lower())
    return (1, *(piece if at % 2 == 0 else f"{int(piece):020d}" for at, piece in enumerate(pieces)), label)


def canonical(name: str) -> str:
    """A name in Unicode's composed form (NFC), which archives made on a Mac do not use."""
    return unicodedata.normalize("NFC", name)


def is_number(label: str) -> bool:
    """Whether a class is called by a whole number."""
    return _NUMBER.fullmatch(label) is not None


def fault(label: str) -> str | None:
    """Why a name cannot be that of a class; None for one that can.

    Letters of every script, blanks of every kind and joiners (as in Persian) are fine; control characters, line breaks
    and characters that reorder the text beside them are not, nor is what no encoding can write.
    """
    if not label.strip():
        return "it is empty"
    for character in label:
        category = unicodedata.category(character)
        if category == "Cs":
            return "it is not valid UTF-8"
        if category in {"Cc", "Zl", "Zp"}:
            return f"it holds the control character U+{ord(character):04X}"
        if character in _REORDERING:
            return f"it holds U+{ord(character):04X}, which reorders text"
    return None
