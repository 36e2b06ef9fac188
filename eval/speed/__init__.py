"""The command that measures time and memory: ``python -m eval.speed``."""
