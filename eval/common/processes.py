"""The processes of one command that ``torchrun`` started: they share the work and stop together."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pacl.cli.messages import EXIT_USER_ERROR
from pacl.errors import UserError
from pacl.jobs.processes import Process


@dataclass(frozen=True)
class Processes:
    """This process among those that ``torchrun`` started.

    Attributes:
        rank: its number.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """A step with a barrier at its end; if any process raises a `UserError` in it, all exit."""
        error: UserError | None = None
        try:
            yield
        except UserError as raised:
            error = raised
        if self.count > 1:
            import torch.distributed as dist

            failed = [False] * self.count
            dist.all_gather_object(failed, error is not None)
            if any(failed) and error is None:
                raise SystemExit(EXIT_USER_ERROR)  # the process that failed reports why
        if error is not None:
            raise error

    def device(self, name: str) -> str:
        """``auto`` becomes this process's own GPU where there are several processes; other names stay."""
        import torch

        if name != "auto" or self.count == 1:
            return name
        local = Process(self.rank, self.count, int(os.environ.get("LOCAL_RANK", 0)))
        return local.device("cuda") if torch.cuda.is_available() else "cpu"


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the processes of ``torchrun``, if it started this one."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        yield Processes()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=datetime.timedelta(days=2))  # for barriers alone; results go through files
    try:
        yield Processes(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()
