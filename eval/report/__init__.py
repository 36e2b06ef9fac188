"""Results gathered and compared with published figures: ``python -m eval.report``."""
