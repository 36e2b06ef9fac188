"""The settings that docs/training.md advises are settings of its training."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from pacl import train
from tests.pages import commands
from tests.paths import ROOT

PATH = ROOT / "docs" / "training.md"
ADVISED = re.findall(r"`--((?:data|model|trainer)\.\w+) ([^`\s]+)`", PATH.read_text(encoding="utf-8"))


def test_the_training_takes_the_settings_that_the_page_advises(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert len(ADVISED) >= 4
    command = next(each for each in commands(PATH) if each.startswith("python -m pacl.train "))
    advised = [word for name, value in ADVISED for word in (f"--{name}", value)]
    with pytest.raises(SystemExit) as stop:
        train.main([*shlex.split(command)[3:], *advised, "--print_config"])
    assert stop.value.code in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["init_args"]["pairs"] == "my.csv"
    assert printed["model"]["lr"] == 5e-4
