"""How much of a score is lost when a patch of the image is covered (Zeiler and Fergus 2014, arXiv:1311.2901)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

import numpy as np

from contract.network.form import Form, in_batches
from contract.network.graph import Floats
from contract.preprocessing import Pixels
from service.explanation.baselines import Baseline, baseline
from service.explanation.errors import InvalidOption
from service.explanation.heat_map import HeatMap
from service.explanation.question import Question

MOST_PASSES: Final = 4096
FILLS: Final = get_args(Baseline)
_PATCHES: Final = 8
"""Patches that stand side by side, unless their size is given; each moves by half of itself."""


@dataclass(frozen=True)
class Occlusion:
    """What covering costs.

    Attributes:
        fill: what patches are covered with.
        patch, stride: in pixels.
        score: of the whole image.
        lost: of the score at each place, float32 (rows, columns): positive where the patch spoke for the answer.
        origins: the first row and column of each place's patch.
    """

    fill: Baseline
    patch: tuple[int, int]
    stride: tuple[int, int]
    score: float
    lost: Floats

    def heat_map(self) -> HeatMap:
        """A cell is a patch; neighbours overlap."""
        return HeatMap(self.lost, (0, 0), self.stride, self.patch)


def explain(
    form: Form,
    image: Pixels,
    question: Question,
    *,
    fill: Baseline = "grey",
    patch: int | None = None,
    stride: int | None = None,
) -> Occlusion:
    """Cover an image, uint8 (1, H, W, 3), patch by patch, and ask the model each time.

    Raises:
        InvalidOption: the patch is larger than the image, or there would be more than `MOST_PASSES` places.
    """
    _, height, width, _ = image.shape
    size = (patch, patch) if patch else (max(1, height // _PATCHES), max(1, width // _PATCHES))
    if size[0] > height or size[1] > width:
        raise InvalidOption(f"patch is {patch}: the image is {height} by {width} pixels")
    step = (stride, stride) if stride else (max(1, size[0] // 2), max(1, size[1] // 2))
    tops, lefts = _places(height, size[0], step[0]), _places(width, size[1], step[1])
    if len(tops) * len(lefts) > MOST_PASSES:
        raise InvalidOption(
            f"a patch of {size[0]} by {size[1]} with stride {step[0]} has {len(tops) * len(lefts)} places; "
            f"{MOST_PASSES} are the most: raise stride"
        )
    cover = baseline(image, fill)[0]
    places = np.array([(top, left) for top in tops for left in lefts])
    logits, _ = form.answers(image)
    weights = question.weights(logits.shape[1])
    score = float(logits[0] @ weights)
    scores = []
    for part in in_batches(np.broadcast_to(places[:, :, None, None], (len(places), 2, height, width))):
        covered = np.repeat(image, len(part), 0)
        for copy, (top, left) in zip(covered, part[:, :, 0, 0], strict=True):
            area = np.s_[top : top + size[0], left : left + size[1]]
            copy[area] = cover[area]
        scores.append(form.answers(covered)[0] @ weights)
    lost = (score - np.concatenate(scores)).reshape(len(tops), len(lefts)).astype(np.float32)
    return Occlusion(fill, size, step, score, lost)


def _places(side: int, patch: int, stride: int) -> list[int]:
    """Where patches begin; the last may leave less than a stride uncovered."""
    return list(range(0, side - patch + 1, stride))
