"""The note on images of which one label took nearly all pixels."""

from __future__ import annotations

import pytest

from pacl.cli.hints import say_swallowed


def test_one_image_is_named_and_several_are_counted() -> None:
    one = say_swallowed({"a.jpg": '"cat" took 99%'}, 1, prior=None, calibrated=True)
    assert '"cat" took 99% of a.jpg' in one
    many = say_swallowed({"b.jpg": '"cat" took 99%', "c.jpg": '"dog" took 98%'}, 6, prior=None, calibrated=True)
    assert "2 of 6" in many
    assert "b.jpg" in many
    assert "c.jpg" not in many


@pytest.mark.parametrize(("prior", "tried"), [(None, "prior -0.3"), (0.0, "prior -0.3"), (-0.3, "-0.6"), (-1.0, None)])
@pytest.mark.parametrize("calibrated", [True, False])
def test_a_stronger_prior_and_where_possible_the_peak_rule_are_suggested(
    prior: float | None, tried: str | None, calibrated: bool
) -> None:
    said = say_swallowed({"a.jpg": '"cat" took 99%'}, 1, prior=prior, calibrated=calibrated)
    assert tried in said if tried else "--prior" not in said
    assert ("--background peak" in said) is calibrated


def test_a_background_rule_that_is_on_is_not_suggested() -> None:
    said = say_swallowed({"a.jpg": '"cat" took 99%'}, 1, prior=None, calibrated=True, background=True)
    assert "--background" not in said
