"""Where pictures and captions come from: image-caption sources and the procedural scenes."""
