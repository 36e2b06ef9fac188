"""The method on drawn scenes with exact masks: ``python -m eval.scenes``."""
