"""Results of segmentation as files: masks, overlays, heat maps, COCO JSON, NumPy arrays."""
