"""Background rules: their spelling, their limits, their verdicts."""

import math

import pytest
import torch

from pacl.errors import ArgumentError
from pacl.segmentation.background import PEAK_SHARE, Background, parse_background


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("auto", Background("auto")),
        ("none", Background("none")),
        ("contrast", Background("contrast")),
        ("prompt:sky; a wall ;", Background("prompt", ("sky", "a wall"))),
        ("threshold:0.1", Background("threshold", limit=0.1)),
        ("entropy", Background("entropy", limit=1.5)),
        ("entropy:1.2", Background("entropy", limit=1.2)),
        ("peak", Background("peak", limit=PEAK_SHARE)),
        ("peak:0.25", Background("peak", limit=0.25)),
    ],
)
def test_spellings(rule: str, expected: Background) -> None:
    assert parse_background(rule) == expected
    assert parse_background(str(expected)) == expected


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "black",
        "none:1",
        "auto:",
        "prompt",
        "prompt:",
        "prompt:;",
        "threshold",
        "threshold:",
        "threshold:high",
        "threshold:0",
        "threshold:1",
        "threshold:-1",
        "threshold:nan",
        "entropy:",
        "entropy:0",
        "entropy:inf",
        "peak:",
        "peak:high",
        "peak:0",
        "peak:1",
        "peak:-0.5",
        "peak:nan",
    ],
)
def test_nonsense_names_the_rule_and_what_would_work(rule: str) -> None:
    with pytest.raises(ArgumentError) as error:
        parse_background(rule)
    assert (error.value.argument, error.value.value) == ("background", rule or repr(rule))
    works = ("prompt:background", "threshold:0.1", "entropy:1.5", "peak:0.6", "contrast")
    assert any(advice in error.value.reason for advice in works)


def test_a_misspelt_rule_comes_with_the_one_that_was_meant() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'peak'"):
        parse_background("peek:0.5")


def test_auto_lets_a_single_label_compete() -> None:
    auto = parse_background("auto")
    assert auto.resolve(1, 1).kind == "contrast"
    assert auto.resolve(1, 3).kind == "contrast", "synonyms do not compete with each other"
    assert auto.resolve(2, 2).kind == "none"


def test_auto_is_peak_for_a_single_label_of_a_calibrated_model() -> None:
    auto = parse_background("auto")
    assert auto.resolve(1, 3, calibrated=True) == Background("peak", limit=PEAK_SHARE)
    assert auto.resolve(2, 2, calibrated=True) == Background("none")


@pytest.mark.parametrize("limit", [0.1234567, 0.5, 1e-05, 2.0])
def test_a_rule_is_written_so_that_it_is_read_the_same(limit: float) -> None:
    rule = Background("entropy", limit=limit)
    assert parse_background(str(rule)) == rule
    assert str(Background("entropy", limit=2.0)) == "entropy:2"


@pytest.mark.parametrize("labels", [1, 3])
def test_peak_needs_a_calibrated_model(labels: int) -> None:
    peak = parse_background("peak:0.5")
    assert peak.resolve(labels, labels, calibrated=True) == peak
    with pytest.raises(ArgumentError) as error:
        peak.resolve(labels, labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("labels", [1, 2, 3, 4])
def test_the_papers_entropy_can_never_fire_for_four_classes_or_fewer(labels: int) -> None:
    assert math.log(labels) < 1.5
    with pytest.raises(ArgumentError, match=f"{math.log(labels):.2f}"):
        parse_background("entropy").resolve(labels, labels)


def test_limits_that_can_hold_are_let_through() -> None:
    assert parse_background("entropy").resolve(5, 5).limit == 1.5
    assert parse_background("entropy:0.5").resolve(2, 2).limit == 0.5
    assert parse_background("threshold:0.1").resolve(11, 11).limit == 0.1
    assert parse_background("threshold:0.1").resolve(3, 11).limit == 0.1, "the softmax runs over all prompts"


@pytest.mark.parametrize(("limit", "names"), [(0.1, 10), (0.1, 3), (0.9, 1)])
def test_a_threshold_below_chance_is_refused_with_one_that_works(limit: float, names: int) -> None:
    with pytest.raises(ArgumentError) as error:
        parse_background(f"threshold:{limit}").resolve(names, names)
    if names > 1:
        advised = str(error.value).split("such as ")[1].split(",")[0]
        assert parse_background(advised).resolve(names, names).kind == "threshold"


def test_threshold_rejects_what_is_below() -> None:
    probabilities = torch.tensor([[0.6, 0.3, 0.2], [0.4, 0.5, 0.4], [0.0, 0.2, 0.4]])  # [C, pixels]
    rejected = Background("threshold", limit=0.5).rejects(probabilities)
    assert rejected is not None
    assert rejected.tolist() == [False, False, True]


def test_entropy_is_in_nats_of_the_classes_shares() -> None:
    even = torch.full((5, 1), 0.2)
    sure = torch.tensor([[1.0], [0.0], [0.0], [0.0], [0.0]])
    for probabilities, entropy in ((even, math.log(5)), (sure, 0.0), (even / 2, math.log(5))):
        for limit, expected in ((entropy + 0.01, False), (entropy - 0.01, True)):
            rejected = Background("entropy", limit=limit).rejects(probabilities)
            assert rejected is not None
            assert rejected.item() is expected


@pytest.mark.parametrize("kind", ["none", "prompt", "contrast", "peak"])
def test_the_other_rules_leave_it_to_the_argmax(kind: str) -> None:
    assert Background(kind, ("sky",)).rejects(torch.rand(3, 4)) is None
