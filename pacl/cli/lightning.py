"""What the training commands share: configurations that travel with the package, and mistakes in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from jsonargparse import ArgumentError
from pytorch_lightning.cli import LightningCLI

from pacl.errors import UserError

CLI = TypeVar("CLI", bound=LightningCLI)

# Lightning warns of what is meant here: frozen towers in eval mode, resuming into the same folder, few batches.
MEANT = (
    ".*args parameter is intended to run from within Python",
    ".*in eval mode at the start of training",
    ".*exists and is not empty",
    ".*dirpath has changed",
    ".*smaller than the logging interval",
    ".*isinstance.treespec, LeafSpec",
    ".*your dataloader is not resumable",  # its place is in the data module's state
    ".*across ranks is zero",
    ".*recommended to use .self.log.*sync_dist",  # what is logged is the same on all processes
)


def find_config(name: str) -> Path:
    """A configuration file by its path, or by its place in the configs that travel with the package.

    Raises:
        UserError: there is no such file; the message names those there are.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).resolve().parents[1]
    folders = [package / "configs", package.parent / "configs"]  # of a wheel, of a clone
    relative = Path(name).relative_to("configs") if Path(name).parts[:1] == ("configs",) else Path(name)
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    known = sorted({f"configs/{path.name}" for folder in folders for path in folder.glob("*.yaml")})
    raise UserError(f"--config {name}: no such file; there are {', '.join(known) or 'no configs installed'}")


def with_config(argv: Sequence[str], default: str) -> list[str]:
    """The arguments with every ``--config`` found, and with ``default`` in front if there is none."""
    arguments, found = list(argv), False
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-c"):
            found = True
            if equals:
                arguments[i] = f"{flag}={find_config(value)}"
            elif i + 1 < len(arguments):
                arguments[i + 1] = str(find_config(arguments[i + 1]))
    return arguments if found else ["--config", str(find_config(default)), *arguments]


def parse(build: Callable[..., CLI], verb: str, doc: str | None, argv: Sequence[str], default: str) -> CLI:
    """Parse a command's words and build its model, data and trainer, without running it.

    Args:
        build: makes the `LightningCLI` from keyword arguments.
        verb: the command's name.
        doc: the command's docstring; its first paragraph describes it in ``--help``.
        argv: the words.
        default: configuration to use when none is named.

    Raises:
        UserError: whatever is wrong with the words or the YAML.
    """
    for message in MEANT:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda line: "Tip:" not in line.getMessage())
    try:
        return build(
            subclass_mode_data=True,
            run=False,
            args=with_config(argv, default),
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": f"pacl {verb}",
                "description": (doc or "").partition("\n\n")[0],
                "exit_on_error": False,
            },
            save_config_kwargs={"overwrite": True},
        )
    except (ArgumentError, UnicodeDecodeError) as error:
        raise UserError(error) from None
    except ModuleNotFoundError as error:  # a logger or callback of a package that is not here
        raise UserError(f"{error}; pip install {error.name}") from None
