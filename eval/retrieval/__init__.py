"""Image-text retrieval: ``python -m eval.retrieval``."""
