"""Names in the places of other classes."""

from __future__ import annotations

import pytest

from eval.common.class_names import Misplaced, find_misplaced, same_word

KEYS = ("sky", "sign_symbol", "bicyclist")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (KEYS, None),
        (("Sky", "sign symbol", "bicyclist"), None),
        (("the sky", "a sign", "cyclist"), None),
        (("sky", "cyclist", "Sign symbol"), Misplaced("Sign symbol", "bicyclist", "sign_symbol")),
        (("bicyclist", "sign symbol", "sky"), Misplaced("bicyclist", "sky", "bicyclist")),
        (("sky", "bicyclist"), Misplaced("bicyclist", "sign_symbol", "bicyclist")),
    ],
)
def test_names_in_the_places_of_other_classes(names, found):
    assert find_misplaced(names, KEYS) == found


def test_classes_that_are_the_same_word_are_in_their_places():
    assert find_misplaced(("Sky", "sky"), ("sky", "Sky")) is None
    assert same_word("SIGN SYMBOL", KEYS) == "sign_symbol"
