"""A trained network as a bundle: ONNX, int8, report."""
