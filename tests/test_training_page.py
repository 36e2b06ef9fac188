"""What docs/training.md says can be typed: its trainings parse, its settings exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from eval.report import curve
from pacl import calibrate, train
from pacl.cli import data_check as check
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m (\S+) (.*)$", PAGE, re.M)
SETTINGS = re.findall(r"`--((?:data|model|trainer)\.\w+) ([^`\s]+)`", PAGE)


def words_of(module: str) -> list[str]:
    (words,) = (words for name, words in COMMANDS if name == module)
    return shlex.split(words)


def test_the_commands_are_those_that_there_are():
    known = {"pacl.data": check, "pacl.calibrate": calibrate, "eval.report.curve": curve}
    assert {name for name, _ in COMMANDS} == {*known, "pacl.train", "pacl.segment"}
    for name, module in known.items():
        words = words_of(name)
        module.build_parser().parse_args(words[1:] if name == "pacl.data" else words)


def test_the_training_takes_its_settings_and_those_that_the_page_advises(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert len(SETTINGS) >= 4
    advised = [word for name, value in SETTINGS for word in (f"--{name}", value)]
    with pytest.raises(SystemExit) as stop:
        train.main([*words_of("pacl.train"), *advised, "--print_config"])
    assert stop.value.code in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["init_args"]["pairs"] == "my.csv"
    assert printed["model"]["lr"] == 5e-4


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", PAGE)
    headings = {
        re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    assert targets
    for path, anchor in targets:
        assert not path or (ROOT / "docs" / path).exists(), path
        assert path or anchor[1:] in headings, anchor
