"""Argument parsing that the commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from pacl.errors import ArgumentError, UserError, ask_meant, did_you_mean

_NUMBER = r"(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?|inf|infinity|nan"
NEGATIVE = re.compile(rf"-({_NUMBER})(,[-+]?({_NUMBER}))*$", re.IGNORECASE)
"""Negative numbers as `float` reads them, or several with commas between them: values of flags."""


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage text that would bury it."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._negative_number_matcher = NEGATIVE  # argparse's own takes -1e-3, -inf and -1,2 for flags

        self.values: dict[str, str] = {}
        """Flags -> what their values may be, for those that are given none."""
        self.instead: dict[str, str] = {}
        """Unknown flags -> what is meant, with their value after it."""
        self.never: dict[str, str] = {}
        """Unknown flags -> why there are none."""
        self.words_hint: str | None = None
        """Where words that no flag takes belong."""

    def parse_known_args(self, *args: Any, **more: Any) -> Any:
        """As argparse does; ``--out -`` is refused, since results of several lines or files go there."""
        found, others = super().parse_known_args(*args, **more)
        if str(getattr(found, "out", None)) == "-":
            raise ArgumentError("out", "-", "cannot be standard output; name a file or folder")
        return found, others

    def error(self, message: str) -> NoReturn:
        lacking = re.match(r"argument (--\w+): expected one argument", message)
        if lacking and lacking[1] in self.values:
            message = f"{lacking[1]}: needs a value: {self.values[lacking[1]]}"
        elif message.startswith("unrecognized arguments: -"):
            flag, _, value = message.removeprefix("unrecognized arguments: ").replace("=", " ", 1).partition(" ")
            known = [option for action in self._actions for option in action.option_strings]
            if flag in self.instead:
                value = value.partition(" ")[0] or "X"
                raise UserError(f"{flag}: no such option; {ask_meant([self.instead[flag] + value])}")
            if flag in self.never:
                raise UserError(f"{flag}: {self.never[flag]}")
            message = f"{flag}: no such option; {did_you_mean(flag, known, cutoff=0.7) or 'see --help'}"
        elif message.startswith("the following arguments are required: "):
            texts = [str(action.help) for action in self._actions if action.metavar == message.partition(": ")[2]]
            message += f" ({texts[0]})" if texts and texts[0] != "None" else f"; see {self.prog} --help"
        elif message.startswith("unrecognized arguments: ") and self.words_hint:
            message = f"{message.removeprefix('unrecognized arguments: ')}: {self.words_hint}"
        raise UserError(message.removeprefix("argument "))


class Once(argparse.Action):
    """Stores the value of a flag that may be one of several; a second one, which would replace it, is refused."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        before = getattr(namespace, self.dest)
        if before != self.default:
            raise UserError(f"{option_string}: is given twice ({before}, {values}); give all in one")
        setattr(namespace, self.dest, values)


def new_parser(prog: str, description: str | None, **more: object) -> OneLineParser:
    """A parser whose mistakes are one line and whose help shows the description as it is written.

    What it parses has the attribute ``prog``, by which messages name the command.
    """
    parser = OneLineParser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    parser.set_defaults(prog=prog)
    return parser


def check_unused(args: argparse.Namespace, parser: argparse.ArgumentParser, names: Iterable[str], where: str) -> None:
    """Refuse flags that decide nothing, so that nobody takes the results for theirs.

    Args:
        args: the flags.
        parser: it knows their defaults.
        names: the flags that have no effect.
        where: completes "has no effect".

    Raises:
        ArgumentError: one of them has another value than its default.
    """
    for name in names:
        if (value := getattr(args, name)) != parser.get_default(name):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            raise ArgumentError(name, shown, f"has no effect {where}; leave it out")
