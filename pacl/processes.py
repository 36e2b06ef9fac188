"""Which of several processes this one is, as torchrun, SLURM and Lightning say in the environment, and what ends it.

Nothing here imports PyTorch before a device is asked for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pacl.errors import UserError

Element = TypeVar("Element")

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a process from outside: Ctrl-C, a time limit, and, not on Windows, a terminal that is closed."""

LAUNCHERS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
"""Environment variables of torchrun and of srun: number of the process, of all processes, number on its machine."""

RANKS = (*(names[0] for names in LAUNCHERS), "LOCAL_RANK", "GROUP_RANK", "NODE_RANK")
"""Environment variables that are 0, or not set, in the first process; Lightning sets only some of them."""


@dataclass(frozen=True)
class Process:
    """One of several processes.

    Attributes:
        rank: its number, from 0.
        count: of all processes.
        local_rank: its number among those on the same machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Process:
        """This process, by the variables of the first launcher that set its number.

        Raises:
            UserError: they are not numbers that go together.
        """
        for names in LAUNCHERS:
            if names[0] in environment:
                said = {name: environment.get(name, default) for name, default in zip(names, "010", strict=True)}
                try:
                    rank, count, local_rank = map(int, said.values())
                except ValueError:
                    rank, count, local_rank = -1, 0, 0
                if not 0 <= rank < count or local_rank < 0:
                    text = ", ".join(f"{name}={value}" for name, value in said.items())
                    raise UserError(f"{text}: must be numbers from 0, the first below the second")
                return cls(rank, count, local_rank)
        return cls()

    def device(self, name: str) -> str:
        """The device for ``auto`` or ``cuda`` where there are several processes: a GPU of its own; others stay.

        A launcher may show each process its own GPUs only, as ``srun --gpus-per-task`` does: they are counted from 0.
        """
        if name not in ("auto", "cuda") or self.count == 1:
            return name
        from torch.cuda import device_count

        visible = device_count()
        return f"cuda:{self.local_rank % visible}" if visible else name

    def ordered(self, units: Sequence[Element]) -> list[Element]:
        """All units, this process's own part first: processes meet only when their own parts are done."""
        return [unit for shift in range(self.count) for unit in units[(self.rank + shift) % self.count :: self.count]]


def is_first_process() -> bool:
    """Whether this is the first process of a training, which alone checks the folder: it writes there."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)
