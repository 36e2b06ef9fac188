"""Comparison of methods on procedural scenes with exact masks: ``python -m eval.scenes``."""
