"""Metrics, each once: training's validation and the benchmarks share them."""
