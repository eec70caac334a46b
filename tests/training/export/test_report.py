"""What a bundle says of itself, where the names in it are not plain words."""

from __future__ import annotations

import dataclasses
import html.parser
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from contract.bundle import Bundle
from contract.card import Cost, Data, Training
from tests.support.images import RGB
from tests.support.models import COLOURS, colour_bundle
from training.data.split import Split
from training.evaluation import evaluate
from training.export import report

ODD = (
    "<img src=x onerror=alert(1)>",
    "a|b",
    "*bold* _slanted_ `code`",
    "[link](javascript:alert(1))",
    r"back\slash &lt; $x$ ~~no~~",
    "snake_case_name",
    "گربه‌ها",
    "全角\u3000空白",
    "a very long name of a class " * 9,
    "# & ! <!-- --> </td></table>",
)


def made(tmp_path: Path, labels: tuple[str, ...]) -> tuple[Bundle, evaluate.Evaluation, Split]:
    bundle = colour_bundle(tmp_path / "models", labels=labels)
    images = np.stack([np.full((8, 8, 3), RGB[COLOURS[place % 3]], np.uint8) for place in range(len(labels))])
    split = Split(images, np.arange(len(labels)))
    score = evaluate.evaluate(bundle, split, "test")
    card = dataclasses.replace(
        bundle.card,
        accuracy=score.describe(),
        cost=Cost(latency_ms=1.0, bytes=1000, dtype="float32"),
        data=Data(name="<b>|odd", checksum="sha256:0"),
        training=Training(command="kernelscope train --data '`odd` <b>|'"),
    )
    return dataclasses.replace(bundle, card=card), score, split


def inline(tokens: list[Token]) -> list[Token]:
    """The tokens of texts, in order."""
    return [child for token in tokens for child in token.children or ()]


def test_markdown_shows_names_as_they_are(tmp_path: Path) -> None:
    bundle, _, _ = made(tmp_path, ODD)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(report.markdown(bundle.card))
    kinds = {token.type for token in [*tokens, *inline(tokens)]}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "em_open", "s_open"}
    cells = ["".join(child.content for child in token.children or ()) for token in tokens if token.type == "inline"]
    for label in ODD:
        assert label.strip() in cells
    assert any(cell.startswith("Classifies images") and all(label.strip() in cell for label in ODD) for cell in cells)
    assert "<b>|odd, sha256:0" in cells
    assert any(token.type == "code_inline" and token.content.endswith("'`odd` <b>|'") for token in inline(tokens))


class _Page(html.parser.HTMLParser):
    """The elements and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_shows_names_as_they_are(tmp_path: Path) -> None:
    bundle, score, _ = made(tmp_path, ODD)
    page = _Page()
    page.feed(report.html(bundle.card, score, []))
    assert page.tags.count("img") == 2  # the plots that always stand there
    assert "script" not in page.tags
    for label in (*ODD, "<b>|odd, sha256:0"):
        assert label in page.texts


@pytest.mark.filterwarnings("error")
def test_the_whole_report_is_written_for_long_names(tmp_path: Path) -> None:
    bundle, score, split = made(tmp_path, tuple(f"{number} {'x' * 180}" for number in range(30)))
    report.write(bundle, score, split.images, [])
    assert (bundle.folder / report.FOLDER / "confusion.png").stat().st_size > 0
    assert (bundle.folder / report.FOLDER / "mistakes.png").stat().st_size > 0
