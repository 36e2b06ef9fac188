"""Labels, their prompts and synonyms; what are no labels is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pacl.errors import ArgumentError, UserError
from pacl.prompts import Label
from pacl.segmentation.segmenter import Segmenter
from tests.colours import ColourModel, noise, picture
from tests.segmentation.red_square import run


@pytest.mark.parametrize(
    ("labels", "argument"),
    [
        ([3], "labels[0]"),
        (["red", None], "labels[1]"),
        ([b"red"], "labels[0]"),
        ([""], "labels[0]"),
        (["red", "blue="], "labels[1]"),
        ("", "labels[0]"),
        (None, "labels"),
        (7, "labels"),
        ([], "labels"),
        (b"red", "labels"),
        ({"red": "blue"}, "labels"),
        pytest.param({"red", "blue"}, "labels", id="a set"),
        pytest.param(frozenset({"red", "blue"}), "labels", id="a frozen set"),
    ],
    ids=str,
)
def test_what_are_no_labels_is_refused(labels: Any, argument: str) -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(32, 32))
    for ask in (segmenter.predict, segmenter.prepare, lambda labels: segmenter.predict_batch([], labels)):
        with pytest.raises(ArgumentError) as error:
            ask(labels)
        assert error.value.argument == argument


def test_any_iterable_of_labels_will_do() -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(32, 32))
    expected = segmenter.predict(["red", "blue"])
    for labels in (("red", "blue"), np.array(["red", "blue"]), iter(["red", Label("blue", ("blue",))])):
        assert np.array_equal(segmenter.predict(labels).index, expected.index)
    assert segmenter.predict("red").labels == ["red"]


def test_label_ids_do_not_depend_on_the_background() -> None:
    image = picture(64, 64, (0, 64, 0, 32))
    for background in ("none", "prompt:teal", "contrast", "threshold:0.6"):
        result = run(image, ["blue", "red"], background=background)
        assert result.index[32, 10] == 2, background
        assert result.labels == ["blue", "red"]
        assert result.background == background


def test_prompts_and_labels() -> None:
    image = picture(64, 64, (0, 64, 0, 32))
    result = run(image, ["the red;blue=thing", Label("rest", ("grey",))])
    assert result.labels == ["thing", "rest"]
    assert result.prompts == [("the red", "blue"), ("grey",)]
    assert np.array_equal(result.mask("thing"), result.index == 1)
    assert np.array_equal(result.mask(2), result.index == 2)


def test_a_synonym_changes_nothing_for_the_others_but_their_probabilities() -> None:
    """A label takes its best synonym after the softmax over all of them: two do not outvote one."""
    image = noise(90, 120)
    plain = run(image, ["red", "green", "blue"])
    twice = run(image, ["red;a red;the red=red", "green", "blue"])
    assert np.array_equal(plain.index, twice.index)
    assert twice.scores[0] < 0.6 < plain.scores[0], "three equal synonyms share the probability"
    best = run(image, ["teal;red=warm", "green", "blue"]).score_map("warm")
    apart = run(image, ["teal", "red"])
    np.testing.assert_allclose(best, np.maximum(apart.score_map("teal"), apart.score_map("red")), atol=1e-6)


@pytest.mark.parametrize("labels", [[], [""], ["red", "Red"], ["red=a", "blue=a"], ["one two three four five red"]])
def test_words_that_make_no_sense_are_one_line(labels: list[str]) -> None:
    with pytest.raises(UserError) as error:
        run(picture(8, 8), labels, background="none")
    assert "\n" not in str(error.value)


def test_more_labels_than_a_byte_holds() -> None:
    labels = [f"{i} teal" for i in range(255)]
    assert run(picture(16, 16), labels).index.dtype == np.uint8
    result = run(picture(16, 16), [*labels, "grey"])
    assert result.index.dtype == np.uint16
    assert (result.index == 256).all()


def test_synonyms_as_a_list_show_how_a_label_is_written() -> None:
    with pytest.raises(ArgumentError) as error:
        Segmenter(ColourModel()).prepare([["cat", "kitten"], "blanket"])  # type: ignore[list-item]
    assert error.value.argument == "labels[0]"
    assert "Label('cat', ('cat', 'kitten'))" in error.value.reason
