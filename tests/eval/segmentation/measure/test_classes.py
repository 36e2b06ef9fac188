"""What competes: names, their classes, and a class 0 that is none of these."""

from __future__ import annotations

import pytest

from eval.segmentation.measure import Bench, Extras, Row
from eval.segmentation.protocol import read_protocol
from pacl.errors import ArgumentError
from pacl.prompts import Label
from pacl.segmentation.background import parse_background
from tests.colours import ColourModel, picture
from tests.eval.segmentation.measure.benches import BLUE, GREEN, GREY, PLAIN, RED, a_protocol, ask, folder_of


def test_a_class_0_that_is_none_of_these(tmp_path):
    """Grey is "none of these": by its own name, and by a threshold that the undecided do not pass."""
    image = picture(64, 64, (0, 32, 0, 64))  # red above, grey below
    labels = [Label("background", ("grey", "teal")), RED, BLUE]
    for rule, text in (("none", True), ("threshold:0.9", False)):
        protocol = a_protocol(size=64, background=rule, background_text=text, logit_scale=1)
        row = Row("pacl", ColourModel(), protocol, labels, True)
        ((*_, found),) = next(Bench(folder_of(tmp_path), [row], Extras()).predict([image]))
        assert found[:28].tolist() == [[1] * 64] * 28 if text else found.max() == 0  # at scale 1 nothing is sure
        assert found[36:].max() == 0


def test_what_competes_and_in_which_order():
    sky = tuple(f"{word} {colour}" for word in ("a", "the", "one") for colour in ("red", "green", "teal"))
    labels = [Label("background", (*sky, "blue")), Label("blue", ("blue", "grey")), Label("red", ("red",))]
    protocol = read_protocol("sclip", "voc21", background=True)
    query = ask(labels, True, protocol)
    assert query.prompts == (*sky, "blue", "blue", "grey", "red")
    assert query.ids == (*[0] * 10, 1, 1, 2)
    assert (len(query.labels), str(query.background), protocol.settings.min_area) == (2, "threshold:0.1", 0.1)
    silent = ask([labels[0], RED, GREEN, BLUE, GREY, labels[2]], True, read_protocol("pacl", "voc21", background=True))
    assert silent.prompts == ("red", "green", "blue", "grey", "red")
    assert silent.ids == (1, 2, 3, 4, 5)
    plain = ask(labels[1:], False, read_protocol("sclip", "voc20", background=False))
    assert (plain.prompts, plain.ids, plain.background) == (
        ("blue", "grey", "red"),
        (1, 1, 2),
        parse_background("none"),
    )


def test_the_class_of_each_prompt():
    def classes(labels: list[Label], background: bool) -> list[int]:
        row = Row("pacl", ColourModel(), PLAIN, labels, background).prepare({})  # type: ignore[arg-type]
        return row.classes_of(row.query)

    assert classes([Label("red", ("red", "teal")), GREEN], False) == [0, 0, 1]
    assert classes([Label("none", ("grey",)), RED, GREEN], True) == [0, 1, 2]


def test_a_name_of_two_classes_goes_to_the_first(tmp_path):
    """As the first of equal maxima does in the published code."""
    labels = [Label("background", ("grey", "red")), RED]
    row = Row("pacl", ColourModel(), PLAIN, labels, True)  # type: ignore[arg-type]
    ((*_, found),) = next(Bench(folder_of(tmp_path), [row], Extras()).predict([picture(64, 64, (0, 64, 0, 64))]))
    assert found.max() == 0


def test_a_limit_that_can_never_hold_is_refused_before_anything_is_measured(tmp_path):
    protocol = a_protocol(background="entropy:1.5", background_text=False)
    with pytest.raises(ArgumentError) as error:
        Bench(folder_of(tmp_path), [Row("pacl", ColourModel(), protocol, [GREY, RED, BLUE], True)], Extras())  # type: ignore[arg-type]
    assert error.value.argument == "protocol"


def test_a_class_0_that_nothing_can_become_is_refused():
    with pytest.raises(ArgumentError) as error:
        ask([GREY, RED, BLUE], True, a_protocol(background_text=False))
    assert error.value.argument == "background"
