"""Models as graphs that run without pacl: ONNX, TorchScript, PyTorch's exported programs."""
