"""Networks in the formats of other programs: ONNX, C, PyTorch, scikit-learn, Keras."""
