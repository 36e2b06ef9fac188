"""Images of which one label took nearly all pixels."""

from __future__ import annotations

import pytest

from pacl.segmentation.image_doubts import FEW, swallowed


def named(*shares: float) -> dict[str, float]:
    return {f"l{i}": share for i, share in enumerate(shares)}


def test_a_label_that_took_nearly_all_is_named() -> None:
    said = swallowed(named(0.01, 0.99), None)
    assert said is not None
    assert "l1" in said


@pytest.mark.parametrize(
    ("shares", "prior"), [((0.5, 0.5), None), ((1.0,), None), ((0.0, 1.0), 1.0), ((0.99, *[0.0] * FEW), 0.0)]
)
def test_even_shares_single_labels_long_lists_and_positive_priors_need_no_note(
    shares: tuple[float, ...], prior: float
) -> None:
    assert swallowed(named(*shares), prior) is None
