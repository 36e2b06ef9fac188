"""Details of legends: percentages, names that are too long, labels that were not found."""

from __future__ import annotations

import numpy as np
import pytest

from pacl.results.fonts import BACKGROUND, shorten, text_block, typeface, wrap
from pacl.results.legend import Entry, Legend, _percent


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.00001, "<0.01 %"),
        (0.0004, "0.04 %"),
        (0.031, "3.1 %"),
        (0.42, "42.0 %"),
        (0.9999, "100 %"),
        (1.0, "100 %"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert _percent(share) == text


def test_texts_are_shortened_to_a_width() -> None:
    font = typeface([])(20)
    text = shorten("a rather long label", 100, font)
    assert text.startswith("a rat")
    assert text.endswith("...")
    assert font.getlength(text) <= 100
    assert shorten("dog", 100, font) == "dog"


def test_lines_are_broken_at_spaces_and_limited() -> None:
    assert wrap("a dog\non grass", 1000, typeface([])(20)) == ["a dog on grass"]
    assert len(wrap("a dog on grass", 60, typeface([])(20))) > 1
    heights = [text_block("long " * words, 100, 15, max_lines=3).height for words in (1, 5, 50)]
    assert heights == [20, 40, 60]


def test_the_note_counts_the_labels_that_do_not_fit() -> None:
    font = typeface([])(20)
    assert Legend([])._note_lines(400, font) == []
    assert " ".join(Legend([], "no pixels", ["cat", "dog"])._note_lines(400, font)) == "no pixels: cat, dog"
    lines = Legend([], "no pixels", [f"label{i}" for i in range(100)])._note_lines(400, font)
    assert len(lines) <= 4
    named = " ".join(lines).count("label")
    assert " ".join(lines).endswith(f"and {100 - named} more")


def test_descenders_are_not_cut_off() -> None:
    legend = Legend([Entry("dog", 0.5, (40, 80, 200)), Entry("gjpqy", 0.5, (200, 80, 40))])
    assert (np.asarray(legend.draw(200, 10))[-1] == BACKGROUND).all()


def test_texts_of_all_images_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    face, measured = typeface(["a dog"]), []
    assert face(20) is typeface(["a dog"])(20)
    length = type(face(20)).getlength
    monkeypatch.setattr(type(face(20)), "getlength", lambda *args: measured.append(args[1]) or length(*args))
    lines = [wrap("words that are measured here only", 150, face(20)) for _ in range(3)]
    assert lines[0] == lines[1] == lines[2]
    assert len(measured) == len(set(measured)) > 0
