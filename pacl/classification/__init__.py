"""Whole images: scores of every image with every text, and probabilities of labels."""
