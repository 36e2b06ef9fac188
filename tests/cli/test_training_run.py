"""Intervals of validation of a run that is counted in steps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pacl.cli.training_run import validation_interval


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"max_steps": 60}, {"val_check_interval": 6, "check_val_every_n_epoch": None}),
        ({"max_steps": 3}, {"val_check_interval": 1, "check_val_every_n_epoch": None}),
        ({"max_steps": -1}, {}),
        ({"max_steps": 60, "val_check_interval": 20}, {"check_val_every_n_epoch": None}),
        ({"max_steps": 60, "val_check_interval": 0.5}, {}),
        ({"max_steps": -1, "val_check_interval": 2}, {"check_val_every_n_epoch": None}),
        ({"val_check_interval": 2, "check_val_every_n_epoch": 2}, {}),
        ({"max_steps": 60, "check_val_every_n_epoch": 2}, {}),
    ],
)
def test_validations_are_counted_in_steps_where_a_run_is(settings: dict[str, int], found: dict[str, int]) -> None:
    given = {"max_steps": -1, "val_check_interval": None, "check_val_every_n_epoch": 1, **settings}
    assert validation_interval(SimpleNamespace(**given)) == found
