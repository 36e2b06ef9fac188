"""The Markdown pages of the repository: their links, commands and Python snippets."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pacl.__main__ import VERBS
from pacl.cli import early
from pacl.cli.parser import OneLineParser
from pacl.cli.training_parser import SettingsCLI
from pacl.errors import UserError
from tests.paths import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "eval/**/*.md", "pacl/**/*.md", "notebooks/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)

LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]*))?\)")
COMMAND = re.compile(rf"(?:\bpython3? -m (pacl|eval)\b|^pacl (?={'|'.join(VERBS)}))\S*[^`|>]*")
BARE = re.compile(r"(?:python3? -m [\w.]+|pacl \w+)(?: check)?")
SETTINGS_FROM_YAML = ("pacl.train", "pacl.pretrain", "eval.experiments.own_caption")
"""Commands whose arguments are settings of classes; they print them with ``--print_config``."""


def name_of(path: Path) -> str:
    """README.md, docs/models.md, ..."""
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def links(path: Path) -> list[tuple[Path, str]]:
    """File and anchor of every link that leads into the repository; the anchor is empty where there is none."""
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [((path.parent / file).resolve() if file else path, anchor) for file, anchor in LINK.findall(prose)]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}


def commands(path: Path) -> list[str]:
    """Commands of the package in bash blocks and in `inline code`, with the block's variables filled in."""
    text = path.read_text(encoding="utf-8")
    found: list[str] = []
    for block in blocks(text, "(?:bash|sh)"):
        variables = dict(re.findall(r'^(\w+)="(.*)"$', block, re.MULTILINE))
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = re.sub(rf"\${name}\b", value, line)
            found += [match[0] for match in COMMAND.finditer(line.strip())]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = [match[0].strip() for code in re.findall(r"`([^`\n]+)`", prose) if (match := COMMAND.match(code))]
    # A command that is only named, without its words, must exist.
    found += [f"{code} --help" if BARE.fullmatch(code) else code for code in inline if not code.endswith("...")]
    return [command for command in dict.fromkeys(map(str.strip, found)) if shlex.split(command, comments=True)]


class Parsed(Exception):
    """Raised in a command's place as soon as its arguments are understood."""


def parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command's own parser read its words, and run nothing.

    Raises:
        UserError: A flag that there is not, or a value that does not fit.
    """
    words = shlex.split(command, comments=True)
    module, *words = words[2:] if words[0].startswith("python") else [f"pacl.{words[1]}", *words[2:]]
    if module == "pacl":
        module, *words = f"pacl.{words[0]}", *words[1:]
    if module == "pacl.data":
        module, *words = f"pacl.cli.data_{words[0]}", *words[1:]
    program = importlib.import_module(module)
    if hasattr(program, "__path__"):
        program = importlib.import_module(f"{module}.run")
    monkeypatch.chdir(ROOT)
    if module in SETTINGS_FROM_YAML:
        monkeypatch.setattr(early, "check_files", lambda settings: None)  # files on pages need not be there
        monkeypatch.setattr(SettingsCLI, "parse_arguments", _then_stop(SettingsCLI.parse_arguments))
        with pytest.raises((Parsed, SystemExit)) as stop:
            program.main(words)
        assert stop.type is Parsed or not stop.value.code  # type: ignore[attr-defined]
        return
    for method in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(OneLineParser, method, _then_stop(getattr(OneLineParser, method)))
    try:
        program.main(words)
    except Parsed:
        return
    except SystemExit as stop:
        if stop.code:
            raise
        return  # --help
    except UserError as error:
        if str(error) == f"{words[-1]}: expected one argument":  # text that only names a flag, such as `... --format`
            return
        raise
    raise AssertionError(f"{command} ran without parsing its words")


def _then_stop(method: Any) -> Any:
    def parse_and_stop(*args: Any, **more: Any) -> None:
        method(*args, **more)
        raise Parsed

    return parse_and_stop
