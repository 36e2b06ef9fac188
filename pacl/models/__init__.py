"""The model `PACL` and its parts: frozen image and text towers, the patch embedder and the compatibility function."""
