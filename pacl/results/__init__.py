"""What a segmented image leaves behind: masks, overlays, COCO JSON, one record."""
