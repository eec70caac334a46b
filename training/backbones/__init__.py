"""Networks pre-trained on ImageNet. Another one is a module like `efficientnet_lite`, and a line in `BACKBONES`."""

from __future__ import annotations

from typing import Final

from contract.errors import UsageError
from training.backbones import efficientnet_lite
from training.backbones.backbone import Backbone

BACKBONES: Final[dict[str, Backbone]] = {
    backbone.name: backbone for backbone in (efficientnet_lite.LITE0, efficientnet_lite.LITE2)
}


def find(name: str) -> Backbone:
    """The backbone of that name. Raises `UsageError`, which lists the names there are."""
    if name not in BACKBONES:
        raise UsageError(f"there is no backbone {name!r}: choose {', '.join(BACKBONES)}")
    return BACKBONES[name]
