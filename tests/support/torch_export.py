"""Exports networks of torchvision and Hugging Face with random weights, with an interpreter that has PyTorch.

Without the package transformers, what is Hugging Face's is left out.
"""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
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
    if find_spec("transformers"):
        hugging_face(folder)


def hugging_face(folder: Path) -> None:
    """A vision transformer of its own class, with the names that its exporter gives."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    network = ViTForImageClassification(
        ViTConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_labels=CLASSES,
            initializer_range=0.2, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    free = {"pixel_values": {0: "batch_size"}, "logits": {0: "batch_size"}}
    torch.onnx.export(
        network, (torch.randn(1, 3, 224, 224),), folder / "vit.onnx", dynamo=False, dynamic_axes=free,
        input_names=["pixel_values"], output_names=["logits"],
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
