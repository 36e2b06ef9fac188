"""Procedural scenes: drawn images with true captions and exact masks."""
