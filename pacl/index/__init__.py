"""Search in folders of images: an index of their embeddings on disk, kept up to date, and ranked answers."""
