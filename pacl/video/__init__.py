"""Videos, frame by frame: reading, smoothing over time, segmenting, drawing and writing."""
