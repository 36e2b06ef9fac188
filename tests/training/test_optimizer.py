from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from pacl.errors import ArgumentError
from pacl.training.contrastive import Export
from pacl.training.limits import check_least
from pacl.training.module import PACLModule
from pacl.training.optimizer import shorten_warmup, warmup_cosine
from pacl.training.pretrain_clip import CLIPModule
from pacl.training.pretrain_dual import DualEncoderModule


def test_it_rises_linearly_and_falls_as_a_cosine() -> None:
    factor = warmup_cosine(4, 12)
    assert [factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [factor(step) for step in (4, 8, 12, 20)] == pytest.approx([1, 0.5, 0, 0])
    assert warmup_cosine(0, 1)(0) == 1


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_settings_are_at_least_their_least_and_finite(value: float) -> None:
    with pytest.raises(ArgumentError) as error:
        check_least({"warmup": 0, "lr": value}, warmup=0, lr=0)
    assert error.value.argument == "lr"
    check_least({"warmup": 0, "patches": None}, warmup=0, patches=1)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        *((PACLModule, name) for name in ("scale_lr", "weight_decay", "eps", "warmup")),
        *((CLIPModule, name) for name in ("learning_rate", "weight_decay", "warmup")),
        *((DualEncoderModule, name) for name in ("image_lr", "head_lr", "weight_decay", "warmup")),
        (Export, "every"),
    ],
)
def test_all_trainings_check_their_settings(build: Any, name: str) -> None:
    with pytest.raises(ArgumentError) as error:
        build(**{name: -1})
    assert error.value.argument == name


@pytest.mark.parametrize("betas", [(1.5, 0.9), (0.9, float("nan")), (-1, 0.5)])
def test_betas_are_from_0_to_below_1(betas: tuple[float, float]) -> None:
    with pytest.raises(ArgumentError) as error:
        PACLModule(betas=betas)
    assert error.value.argument == "betas"


@pytest.mark.parametrize(("warmup", "steps", "used"), [(10, 40, 10), (11, 40, 10), (5, 3, 1), (0, 3, 0)])
def test_the_warm_up_is_at_most_a_quarter_of_a_run(warmup: int, steps: int, used: int) -> None:
    with pytest.warns(UserWarning, match=f"warmup {warmup}") if used < warmup else nullcontext():
        assert shorten_warmup(warmup, steps) == used
