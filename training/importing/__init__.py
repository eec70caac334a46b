"""A classifier from elsewhere, as an ONNX file -> a published bundle. Needs onnx and onnxruntime, and no Keras."""
