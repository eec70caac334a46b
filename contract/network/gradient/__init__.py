"""The backward pass of an ONNX graph, as another ONNX graph."""

from contract.network.gradient.derivation import Gradient, derive, unsupported

__all__ = ["Gradient", "derive", "unsupported"]
