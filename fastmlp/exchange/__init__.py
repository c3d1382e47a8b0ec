"""Models from and for other programs: PyTorch, ONNX, C and NumPy; each file brings its own library along."""
