"""Metrics, shared by the validation of training and by the benchmarks."""
