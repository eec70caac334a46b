"""Exports networks of torchvision with random weights; run by an interpreter that has PyTorch, with a folder."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

CLASSES = 37


def main(folder: Path) -> None:
    import torch
    import torchvision

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    for name in ("resnet18", "mobilenet_v2"):
        network = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
        with torch.no_grad():  # statistics of batch normalisation under which the answers differ
            for _ in range(3):
                network.train()(torch.randn(8, 3, 96, 96) + torch.randn(8, 3, 1, 1))
        network.eval()
        image = torch.randn(1, 3, 224, 224)
        free = {"input": {0: "batch"}, "logits": {0: "batch"}}
        names = {"input_names": ["input"], "output_names": ["logits"]}
        torch.onnx.export(network, (image,), folder / f"{name}-free.onnx", dynamo=False, dynamic_axes=free, **names)
        torch.onnx.export(network, (image,), folder / f"{name}-fixed.onnx", dynamo=False)
        torch.onnx.export(network, (image,), folder / f"{name}-dynamo.onnx", dynamo=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
