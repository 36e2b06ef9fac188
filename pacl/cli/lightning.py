"""Shared by the training commands: the configurations of the package, parsing, and errors in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import jsonargparse
from pytorch_lightning.cli import LightningCLI

from pacl.errors import ArgumentError, UserError

CLI = TypeVar("CLI", bound="SettingsCLI")

# Lightning warns of what is intended here: frozen towers in eval mode, resuming into the same folder, few batches.
EXPECTED_WARNINGS = (
    ".*args parameter is intended to run from within Python",
    ".*in eval mode at the start of training",
    ".*exists and is not empty",
    ".*dirpath has changed",
    ".*smaller than the logging interval",
    ".*isinstance.treespec, LeafSpec",
    ".*your dataloader is not resumable",  # the state of the data module holds the position
    ".*across ranks is zero",
    ".*recommended to use .self.log.*sync_dist",  # the logged values are the same on all processes
)


def find_config(name: str) -> Path:
    """A configuration file, by its path or its name among the configurations of the package.

    Raises:
        ArgumentError: there is no such file; the message lists the configurations of the package.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).resolve().parents[1]
    folders = [package / "configs", package.parent / "configs"]  # in a wheel, in a clone
    relative = Path(name).relative_to("configs") if Path(name).parts[:1] == ("configs",) else Path(name)
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    known = sorted({f"configs/{path.name}" for folder in folders for path in folder.glob("*.yaml")})
    raise ArgumentError("config", name, f"no such file; known are {', '.join(known) or 'none'}")


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


class SettingsCLI(LightningCLI):
    """Lightning's command line; errors in settings of the model, the data and the callbacks name their flag."""

    def instantiate_classes(self) -> None:
        with self.errors_name_flags():
            super().instantiate_classes()

    @contextmanager
    def errors_name_flags(self) -> Iterator[None]:
        """Turn the argument of an `ArgumentError` into its flag: "batch_size" into "data.batch_size"."""
        try:
            yield
        except ArgumentError as error:
            callbacks = self.config.get("trainer.callbacks") or []
            groups = [(group, self.config.get(group)) for group in ("model", "data")]
            groups += [
                ("trainer.callbacks", each) for each in (callbacks if isinstance(callbacks, list) else [callbacks])
            ]
            for group, settings in groups:
                settings = (settings or {}).get("init_args", settings or {})
                if error.argument in settings and str(settings[error.argument]) == str(error.value):
                    raise ArgumentError(f"{group}.{error.argument}", error.value, error.reason) from None
            raise


def parse(build: Callable[..., CLI], prog: str, doc: str | None, argv: Sequence[str], default: str) -> CLI:
    """Parse the arguments of a command and build its model, data and trainer, without running it.

    Args:
        build: makes the `SettingsCLI` from keyword arguments.
        prog: name of the command.
        doc: docstring of the command; its first paragraph is the description in ``--help``.
        argv: the arguments.
        default: configuration to use without ``--config``.

    Raises:
        UserError: a mistake in the arguments or in the YAML.
    """
    for message in EXPECTED_WARNINGS:
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
                "prog": prog,
                "description": (doc or "").partition("\n\n")[0],
                "exit_on_error": False,
            },
            save_config_kwargs={"overwrite": True},
        )
    except (jsonargparse.ArgumentError, UnicodeDecodeError) as error:
        raise UserError(error) from None
    except ModuleNotFoundError as error:  # of a logger or callback
        raise UserError(f"{error}; pip install {error.name}") from None
