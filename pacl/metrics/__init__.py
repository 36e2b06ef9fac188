"""Metrics that validation during training and the benchmarks share."""
