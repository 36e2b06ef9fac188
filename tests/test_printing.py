"""Names and texts as they are printed."""

import os

import pytest

from pacl.cli.messages import one_line
from pacl.printing import decimals, escaped, printable, quoted, rounded, without_controls


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 象 👩‍🚀.png", "plain é 象 👩‍🚀.png"),
        ("two\nlines\r.png", "two\\nlines\\r.png"),
        ("\x1b[31mred\x07\x9b", "\\x1b[31mred\\x07\\x9b"),
        ("gpj\u202e.png\u2028", "gpj\\u202e.png\\u2028"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert printable(text) == text


def test_bytes_that_are_no_text_are_escaped() -> None:
    name = os.fsdecode(b"caf\xe9.png")
    assert escaped(name) == printable(name) == "caf\\xe9.png"


def test_messages_cannot_forge_lines_or_colours() -> None:
    assert one_line("a\n\x1b[2Jpacl: done") == "a \\x1b[2Jpacl: done"


def test_a_text_in_a_message_is_short_and_in_one_line() -> None:
    assert quoted("a\ndog") == '"a\\ndog"'
    assert quoted("a" * 60_000) == f'"{"a" * 57}..."'


def test_drawn_texts_have_spaces_instead() -> None:
    assert without_controls("a\nb\x1b") == "a b "


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(-0.004, 2, "0.00"), (-0.0, 3, "0.000"), (-0.006, 2, "-0.01"), (0.125, 1, "0.1"), (-1e-9, 6, "0.000000")],
)
def test_what_rounds_to_zero_has_no_sign(value: float, digits: int, text: str) -> None:
    assert str(rounded(value, digits)) == str(float(text))
    assert decimals(value, digits) == text
    assert decimals(value, digits, 9) == f"{text:>9}"
