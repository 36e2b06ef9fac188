"""The script for a GPU machine: what it refuses, and that it goes on after a step that fails. No step runs here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

SCRIPT = ROOT / "eval" / "speed" / "gpu.sh"


def run(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a Python that only runs programs from standard input, and fails at pytest."""
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh
echo "$*" >> {tmp_path}/calls
case "$*" in
*pytest\\ *) exit 3;;
-|-\\ *) exec {sys.executable} "$@";;
esac
""")
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "OUT": str(tmp_path / "out"), **environment}
    return subprocess.run(
        ["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_step_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    steps = json.loads((tmp_path / "out" / "summary.json").read_text())["steps"]
    failed = {step["step"] for step in steps if step["exit_code"]}
    assert failed == {"tests-gpu", "tests-triton"}
    assert {"phi", "segment", "train", "vit_b16_step", "ddp", "photo_head"} <= {step["step"] for step in steps} - failed
    assert "FAILED: exit code 3" in (tmp_path / "out" / "summary.md").read_text()
    calls = (tmp_path / "calls").read_text()
    assert "--device cuda" in calls
    assert "--quick" not in calls


def test_quick_runs_on_the_cpu_and_installs_nothing(tmp_path: Path) -> None:
    run(tmp_path, "--quick")
    calls = (tmp_path / "calls").read_text()
    assert "--device cuda" not in calls
    assert "--device cpu" in calls
    assert all("--dry-run" in line for line in calls.splitlines() if "pip install" in line)
    assert all("--quick" in line for line in calls.splitlines() if "eval.speed " in line)


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--fast"], {}),
        ([], {"WHEELS": "/none"}),
        ([], {"DATA": "/none"}),
        ([], {"OUT": "."}),
        ([], {"PYTHON": "/none"}),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, words: list[str], environment: dict[str, str]) -> None:
    done = run(tmp_path, *words, **environment)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu.sh: error: ")
    assert len(done.stderr.splitlines()) <= 2
    assert not (tmp_path / "calls").exists()
