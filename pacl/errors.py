"""Errors that a user can mend, and warnings that a user can silence."""

from __future__ import annotations

import difflib
import functools
import operator
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar


class UserError(ValueError):
    """Something the user can mend: an argument, a file, a name.

    The message is one line that says what is wrong, where (the argument or the file, with the value got) and
    what would work. Programming errors are never wrapped in it: they keep their traceback.

    Args:
        message: the line.
        *advised: arguments that the message advises to set, by their names in Python. Behind them are no words of the
            user, such as names of files: of several words like an argument the last one is it.
    """

    def __init__(self, message: object = "", *advised: str) -> None:
        super().__init__(message)
        self.advised = advised

    def with_flags(self, flag: str = "--") -> str:
        """The message as a command line says it: ``flag`` before the arguments that it advises to set."""
        text = str(self)
        for name in self.advised:
            text = re.sub(rf"(.*)\b({name})\b", rf"\1{flag}\2", text, count=1, flags=re.DOTALL)
        return text


class ArgumentError(UserError):
    """A value of an argument that does not work.

    Args:
        argument: its name in Python; a command line turns it into its flag.
        value: what was given.
        reason: why it does not work, and what would.
        *advised: arguments that the reason advises to set, see `UserError`.
    """

    def __init__(self, argument: str, value: object, reason: str, *advised: str) -> None:
        super().__init__(f"{argument} {value}: {reason}", *advised)
        self.argument = argument
        self.value = value
        self.reason = reason


class FallbackModel(UserWarning):
    """The model ``auto`` is not OpenAI's CLIP but a smaller one, see `pacl.models.loading.load_model`."""


class OtherDenseVariant(UserWarning):
    """A head is used with another dense variant than it was trained on."""


class UnfamiliarWords(UserWarning):
    """Prompts are far from all words that a head was trained on, are read in pieces, or look like something else.

    They may look like a list of names, a file, or a model.

    See `pacl.models.vocabulary`.
    """


class UnknownWords(UserWarning):
    """Prompts have words that a model with a closed vocabulary was never taught, or no words at all."""


class SameEmbedding(UserWarning):
    """Prompts of different labels have the same embedding."""


class SimilarLabels(UserWarning):
    """Labels differ in case, article or plural only."""


WORD_WARNINGS = (UnknownWords, UnfamiliarWords, SameEmbedding, SimilarLabels)
"""What a command says of the words of a user each time."""


class ImageWarning(UserWarning):
    """An image is left out, or a part of its file is not used or not visible, see `pacl.images.open_image`."""


class VideoWarning(UserWarning):
    """A part of a video cannot be read, see `pacl.video.reading`."""


OUT_OF_MEMORY = (
    "allocate memory",  # torch, and the system
    "Insufficient memory",  # `cv2.error`
    "can't start new thread",  # Python: no memory for its stack
    "failed to map segment",  # the loader of libraries
)
"""Words in messages of errors, of several types, where memory ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in any of the ways in which Python, torch, OpenCV and numpy say so."""
    if isinstance(error, UserError):
        return False
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return True
    torch = sys.modules.get("torch")  # its import needs memory itself
    return torch is not None and isinstance(error, getattr(torch, "OutOfMemoryError", ()))


def are_several(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a value has elements in an order, which is that of results: no single text, no set, no dictionary."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, set, frozenset, Mapping))


def check_count(argument: str, value: Any, least: int = 1) -> int:
    """A whole number of at least ``least``, of Python's or numpy's types.

    Raises:
        ArgumentError: it is something else: a fraction, a truth value, a text, or below.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ArgumentError(argument, repr(value), f"must be a whole number, at least {least}")
    if number < least:
        raise ArgumentError(argument, number, f"must be at least {least}")
    return number


def unreadable(path: object, error: OSError) -> UserError:
    """Why a file cannot be read, in one line: that it does not exist, or the system's reason."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} does not exist")
    return UserError(f"{path}: cannot be read ({error.strerror or error})")


def first_few(names: Sequence[object], count: int = 3) -> str:
    """The first names of a list in words for a message: "a, b, c, ..."."""
    return ", ".join(map(str, names[:count])) + (", ..." if len(names) > count else "")


def did_you_mean(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> str:
    """The known names that are closest to a mistyped one, in their order, as a question; empty if none is close.

    Args:
        name: as it was typed.
        known: all names.
        count: names in the question, at most.
        cutoff: least likeness, see `difflib.get_close_matches`.
    """
    known = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, known, count, cutoff)
    return ask_meant(each for each in known if each in close)


def ask_meant(names: Iterable[str]) -> str:
    """The question whether one of some names was meant, flags without quotes; empty without names."""
    choices = " or ".join(name if name.startswith("-") else repr(name) for name in names)
    return f"did you mean {choices}?" if choices else ""


Class = TypeVar("Class", bound=type)


def names_meant(settings: Class) -> Class:
    """A decorator of dataclasses of settings: an unknown name is a `TypeError` with the one that was meant."""
    init = settings.__init__  # type: ignore[misc]
    names = list(getattr(settings, "__dataclass_fields__", {}))

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        for name in values.keys() - set(names):
            hint = did_you_mean(name, names) or f"there are {', '.join(names)}"
            raise TypeError(f"{settings.__name__} has no setting {name!r}; {hint}")
        init(self, *args, **values)

    settings.__init__ = checked  # type: ignore[misc]
    return settings
