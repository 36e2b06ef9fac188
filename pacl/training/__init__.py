"""Training the patch embedder, and pretraining of dual encoders."""
