"""Several processes of one command."""

from __future__ import annotations

import pytest

from eval.common.processes import processes, together
from pacl.errors import UserError
from pacl.processes import Process


@pytest.mark.parametrize(
    "environment",
    [{"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}],
)
def test_processes_that_cannot_meet_are_refused(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """srun alone starts the same command several times: each would do the whole work."""
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="MASTER_ADDR"), processes():
        pass


def test_one_process_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.delenv("RANK", raising=False)
    with processes() as process, together(process):
        assert process == Process()
