"""Frozen towers, how they are found and loaded, the patch embedder, the compatibility function, and `PACL`."""
