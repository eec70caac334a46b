"""The network in a bundle, read from its ONNX graph: its layers, its receptive fields, its gradient.

This package needs `onnx` and `onnxruntime`; nothing else in `contract` imports it.
"""
