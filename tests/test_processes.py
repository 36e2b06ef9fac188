"""Which of several processes this is, and which units it takes first."""

from __future__ import annotations

import pytest

from pacl.errors import UserError
from pacl.processes import Process


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Process(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Process(3, 4, 1)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}, Process(5, 8, 1)),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "5", "SLURM_NTASKS": "8"}, Process(0, 2, 0)),
    ],
)
def test_the_launchers_variables_say_which(environment: dict[str, str], expected: Process) -> None:
    assert Process.of(environment) == expected


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "x", "WORLD_SIZE": "4"}, {"SLURM_PROCID": "1"}, {"RANK": "-1"}],
)
def test_numbers_that_do_not_go_together_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(UserError):
        Process.of(environment)


def test_all_processes_take_all_units_each_its_own_first() -> None:
    units = list(range(7))
    orders = [Process(rank, 3, rank).ordered(units) for rank in range(3)]
    assert all(sorted(order) == units for order in orders)
    first = [order[: len(units[rank::3])] for rank, order in enumerate(orders)]
    assert sorted(unit for own in first for unit in own) == units


@pytest.mark.parametrize(("visible", "expected"), [(4, "cuda:3"), (1, "cuda:0"), (0, "auto")])
def test_each_process_of_a_machine_has_a_gpu_of_its_own(
    visible: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all GPUs of the machine, or of those that the launcher shows to this process."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: visible)
    assert Process(7, 8, 3).device("auto") == expected
    assert Process(7, 8, 3).device("cuda") == (expected if visible else "cuda")


def test_other_devices_are_taken_as_they_are() -> None:
    assert Process().device("cuda") == "cuda"
    assert Process().device("auto") == "auto"
    assert Process(5, 8, 1).device("cpu") == "cpu"
    assert Process(5, 8, 1).device("cuda:3") == "cuda:3"
