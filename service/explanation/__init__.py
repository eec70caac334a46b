"""How a model decides, derived from its ONNX graph: explanations, feature maps, the arithmetic of one value."""
