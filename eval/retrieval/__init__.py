"""Image-text retrieval: ``python -m eval.retrieval``."""

METHODS = ("pooled", "phi")
RERANKED = "pooled then phi"
