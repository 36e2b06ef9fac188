"""Zero-shot classification and linear probes: ``python -m eval.classification``."""
