"""Commands as their users run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pacl.cli.messages import run_verb

Run = Callable[..., tuple[int, str, str]]
"""Words and flags in; exit code, standard output and standard error out. ``model`` is another than the fixture's."""


def runner(
    prog: str,
    main: Callable[[Sequence[str]], int | None],
    model: str,
    capture: pytest.CaptureFixture[str],
) -> Run:
    """Run a command on a model, with all that its user sees."""
    default = model

    def run(*words: str, model: str = default) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            run_verb(prog, lambda: main([*words, "--model", model]))
        captured = capture.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, captured.out, captured.err

    return run
