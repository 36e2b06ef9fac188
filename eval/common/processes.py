"""The processes of one command that ``torchrun`` started: they share the work and stop together."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pacl.cli.messages import EXIT_USER_ERROR
from pacl.errors import UserError
from pacl.processes import Process


@contextmanager
def processes() -> Iterator[Process]:
    """Join the processes of ``torchrun``, if it started this one.

    Raises:
        UserError: ``srun`` started several without the address at which they meet: each would do the whole work.
    """
    process = Process.of()
    if process.count == 1:
        yield process
        return
    if not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        advice = "start them with torchrun, or set MASTER_ADDR and MASTER_PORT"
        raise UserError(f"{process.count} processes do not know where to meet: {advice}; for one, srun --ntasks 1")
    import torch.distributed as dist

    waiting = datetime.timedelta(days=2)  # for barriers alone; results go through files
    dist.init_process_group("gloo", rank=process.rank, world_size=process.count, timeout=waiting)
    try:
        yield process
    finally:
        dist.destroy_process_group()


@contextmanager
def together(process: Process) -> Iterator[None]:
    """A step with a barrier at its end; if any process raises a `UserError` in it, all exit."""
    error: UserError | None = None
    try:
        yield
    except UserError as raised:
        error = raised
    if process.count > 1:
        import torch.distributed as dist

        failed = [False] * process.count
        dist.all_gather_object(failed, error is not None)
        if any(failed) and error is None:
            raise SystemExit(EXIT_USER_ERROR)  # the process that failed reports why
    if error is not None:
        raise error
