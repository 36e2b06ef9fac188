"""Segmentation benchmarks: ``python -m eval.segmentation``."""
