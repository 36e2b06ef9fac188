"""Metrics that validation during training and the benchmarks share.

To add a segmentation score, add it to `pacl.metrics.segmentation.scores`. The results of benchmarks, their confidence
intervals and the validation during training (`pacl.training.callbacks.SegmentationValidator`) then have it under its
name; the titles of table columns are in `eval.segmentation.tables.SCORES`. The scores of retrieval are those of
`pacl.metrics.retrieval.Recalls`, the scores of classification those of `pacl.metrics.accuracy.accuracies`.
"""
