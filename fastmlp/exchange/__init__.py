"""Import from and export to other programs: PyTorch, ONNX, C, NumPy; each module imports its own library."""
