"""Errors of Lightning's `Trainer` in one line: settings that cannot work here, and what ended a training.

Errors of the parser are worded in `pacl.cli.setting_errors`.
"""

from __future__ import annotations

import math
import os
from typing import Any

import torch.distributed as dist
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from pacl.cli.messages import is_out_of_memory
from pacl.errors import ArgumentError, UserError

SUBJECTS = {
    "strategy": "strategy",
    "devices": "devices",
    "you requested gpu": "devices",
    "num_nodes": "num_nodes",
    "precision": "precision",
    "transformer_engine": "precision",
    "bitsandbytes": "precision",
    "accelerator": "accelerator",
    "backend": "accelerator",
    "torch_xla": "accelerator",
}
"""Words in messages of Lightning -> the setting of the trainer that the message is about."""

NOTHING = "nothing would be trained; train at least 1 step"
NOT_ZERO = {
    "max_steps": NOTHING,
    "max_epochs": NOTHING,
    "limit_train_batches": NOTHING,
    "val_check_interval": "must be above 0: steps (a whole number), or a share of an epoch",
    "check_val_every_n_epoch": "must be at least 1, or null",
}
"""Numbers of the trainer that Lightning lets be 0, and what is wrong with that."""

LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "ProcessGroup")


def trainer_error(settings: Any, error: Exception) -> UserError:
    """An error of Lightning about the settings of the trainer, with the flag that it is about."""
    message = " ".join(str(error).split())
    places = {message.lower().find(word): name for word, name in SUBJECTS.items() if word in message.lower()}
    if not places:
        return UserError(f"--trainer: {message}")
    name = places[min(places)]
    if name == "devices" and "CPUAccelerator" in message:
        message = "numbers of GPUs, but the accelerator is the CPU; use 1"
    return ArgumentError(f"trainer.{name}", settings.get(name), message)


def check_trainer(trainer: Trainer, settings: Any) -> None:
    """Refuse what Lightning accepts, but a training here cannot use.

    Raises:
        ArgumentError: a strategy, precision, number of nodes or another number that does not work.
    """
    for name, reason in NOT_ZERO.items():
        value = settings.get(name)
        if value is not None and not isinstance(value, (bool, str)) and value == 0:
            raise ArgumentError(f"trainer.{name}", value, reason)
    clip = settings.gradient_clip_val
    if clip is not None and not 0 <= clip < math.inf:
        raise ArgumentError("trainer.gradient_clip_val", clip, "must be at least 0, and finite")
    strategy = trainer.strategy
    if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise ArgumentError("trainer.strategy", settings.strategy, "use auto or ddp")
    if isinstance(strategy.launcher, _MultiProcessingLauncher):  # what its processes train is lost when they end
        raise ArgumentError("trainer.strategy", settings.strategy, "use ddp, which starts processes in another way")
    if str(settings.precision) in ("16", "16-mixed") and trainer.precision != "16-mixed":
        reason = "this device has no training in float16; use bf16-mixed or 32-true"
        raise ArgumentError("trainer.precision", settings.precision, reason)
    environment = getattr(strategy, "cluster_environment", None)
    if trainer.num_nodes > 1 and type(environment) is LightningEnvironment and "MASTER_ADDR" not in os.environ:
        reason = "start the command on every node, with srun or torchrun: see configs/slurm.sh"
        raise ArgumentError("trainer.num_nodes", trainer.num_nodes, reason)


def explain_failure(error: Exception, folder: str, memory_advice: str) -> str | None:
    """What ended a training, in one line.

    Args:
        error: what was raised.
        folder: that the training writes to, with its flag.
        memory_advice: what takes less memory.

    Returns:
        None for an error of the program itself, which keeps its traceback.
    """
    message = " ".join(str(error).split())
    if is_out_of_memory(error):
        return f"out of memory; use {memory_advice}"
    if isinstance(error, RuntimeError) and "DataLoader worker" in message:
        return "a process that loads images was killed, as happens when memory runs out; use fewer --data.workers"
    if isinstance(error, ValueError) and message.startswith("`val_check_interval`"):
        return (
            "--trainer.val_check_interval is more steps than an epoch has; "
            "--trainer.check_val_every_n_epoch null counts the steps of all epochs"
        )
    if "EADDRINUSE" in message or "address already in use" in message.lower():
        port = os.environ.get("MASTER_PORT", "of the processes")
        return f"port {port} is in use; set the environment variable MASTER_PORT to another number, or leave it unset"
    if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and any(w in message for w in LOST)):
        return f"the processes of the training lost each other: one of them has ended ({message[:120]})"
    if isinstance(error, OSError):  # while writing logs: files that are read raise a UserError
        return f"{error.filename or folder}: {error.strerror or error}"
    return None
