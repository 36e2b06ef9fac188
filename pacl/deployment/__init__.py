"""Models as graphs that run without pacl: ONNX, TorchScript, PyTorch's exported programs."""

SETTINGS = ("size", "scales", "background", "logit_scale", "prior", "templates")
"""Settings of the segmenter that an export has, as constants of ``model.json``; the others change what is computed."""
