"""Captions of which the text tower knows few words."""

from __future__ import annotations

import warnings

import pytest

from pacl.data.caption_words import check_words
from pacl.errors import UserError
from pacl.models.backbone import Backbone
from pacl.models.loading import load_model

ENGLISH = ["Two girls sit on a park bench, eating ice-cream.", "A white car is parked in front of a red-roofed house"]
GERMAN = [
    "Zwei Mädchen sitzen auf einer Bank und essen Eis",
    "Ein weißes Auto steht vor einem Haus mit rotem Dach",
]
LATIN = ["quercus robur", "turdus merula"]
RUSSIAN = ["Собака бежит по траве.", "Мальчик играет на пляже"]


@pytest.fixture(scope="module")
def photos() -> Backbone:
    return load_model("photos", device="cpu").clip


def test_captions_in_the_language_of_the_text_tower_pass(photos: Backbone) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_words([*ENGLISH, ""], photos)
        check_words([], photos)
        check_words(RUSSIAN, None)


@pytest.mark.parametrize("captions", [GERMAN, LATIN, [*ENGLISH, *RUSSIAN]], ids=["German", "Latin", "mixed"])
def test_many_unknown_words_are_a_warning(photos: Backbone, captions: list[str]) -> None:
    with pytest.warns(UserWarning, match="does not know"):
        check_words(captions, photos)


def test_captions_without_a_known_word_are_refused(photos: Backbone) -> None:
    with pytest.raises(UserError, match="100%"):
        check_words(RUSSIAN, photos)
    bundled = load_model("bundled", device="cpu").clip
    with pytest.raises(UserError, match="knows 67 words"):
        check_words(RUSSIAN, bundled)


def test_a_text_tower_that_reads_any_word_in_pieces_is_not_asked(tiny_clip: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_words(RUSSIAN, load_model(tiny_clip).clip)
