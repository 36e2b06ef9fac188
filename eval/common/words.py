"""What a model cannot read of the words it is given, told on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from pacl.models.backbone import Backbone
from pacl.prompts import unknown_words

SHOWN = 5


def warn_of_unknown_words(clip: Backbone, texts: Iterable[str], verb: str, whose: str) -> None:
    """Tell the words that a model with a closed vocabulary was never taught.

    Args:
        clip: whose text tower it is.
        texts: names or captions.
        verb: the command.
        whose: what the texts are, such as ``names of cifar10``.
    """
    if unknown := unknown_words(texts, clip.vocabulary):
        shown = ", ".join(map(repr, unknown[:SHOWN])) + (", ..." if len(unknown) > SHOWN else "")
        what = "1 word" if len(unknown) == 1 else f"{len(unknown):,} words"
        warn(verb, f"this model was never taught {what} of the {whose}: {shown}")


def warn(verb: str, message: str) -> None:
    """One line on standard error."""
    print(f"pacl {verb}: warning: {message}", file=sys.stderr)
