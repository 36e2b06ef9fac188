"""Errors that a user can mend, and warnings that a user can silence."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(ValueError):
    """Something the user can mend: an argument, a file, a name.

    The message is one line that says what is wrong, where (the argument or the file, with the value got) and
    what would work. Programming errors are never wrapped in it: they keep their traceback.
    """


class ArgumentError(UserError):
    """A value of an argument that does not work.

    Args:
        argument: its name in Python; a command line turns it into its flag.
        value: what was given.
        reason: why it does not work, and what would.
    """

    def __init__(self, argument: str, value: object, reason: str) -> None:
        super().__init__(f"{argument} {value}: {reason}")
        self.argument = argument
        self.value = value
        self.reason = reason


class FallbackModel(UserWarning):
    """The model ``auto`` is not OpenAI's CLIP but a smaller one, see `pacl.models.loading.load_model`."""


class OtherDenseVariant(UserWarning):
    """A head is used with another dense variant than it was trained on."""


class UnfamiliarWords(UserWarning):
    """Prompts are far from all words that a head was trained on, see `pacl.models.vocabulary`."""


class UnknownWords(UserWarning):
    """Prompts have words that a model with a closed vocabulary was never taught, or no words at all."""


class SameEmbedding(UserWarning):
    """Prompts of different labels have the same embedding: the model cannot tell them apart."""


class ImageWarning(UserWarning):
    """A part of an image file is not used or not visible, see `pacl.images.open_image`."""


def first_few(names: Sequence[object], count: int = 3) -> str:
    """The first names of a list in words for a message: "a, b, c, ..."."""
    return ", ".join(map(str, names[:count])) + (", ..." if len(names) > count else "")
