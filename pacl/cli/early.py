"""Mistakes in the arguments of a training that show before PyTorch and Lightning are imported, which takes ten seconds.

The settings are read as the parser of the training reads them, and checked by the functions that the training itself
calls; names and types of settings are those in the source of the classes. What is not understood here (a class in
place of `CaptionData`, values of other types than numbers) is left to that parser.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from pacl.cli.configs import CONFIG_FLAGS, PRETRAIN_CONFIG, TRAIN_CONFIG, with_config
from pacl.cli.resuming import (
    DUAL_ENCODER_ADVICE,
    TRAIN_OUT,
    advice_for,
    check_checkpoint_exists,
    checkpoint_path,
)
from pacl.cli.setting_errors import suggest
from pacl.errors import ArgumentError, UserError
from pacl.files import parse_yaml
from pacl.processes import is_first_process
from pacl.results.kinds import check_kind
from pacl.training import limits
from pacl.training.run_files import check_card, check_unused, results_of, resumes

TRAINER = {"trainer": [("pytorch_lightning", "trainer/trainer.py", "Trainer")]}
CAPTIONS = {"data": [("pacl", "data/caption_data.py", "CaptionData")]}
MODEL = {"model": [("pacl", "training/module.py", "PACLModule"), ("pacl", "models/head.py", "HeadSettings")]}
CLIP = {"model": [("pacl", "training/pretrain_clip.py", "CLIPModule")]}
DUAL_ENCODER = {"model": [("pacl", "training/pretrain_dual.py", "DualEncoderModule")]}
"""Groups of settings -> package, file and name of the classes whose arguments they are."""

GROUPS = {"data.cut": "mode", "model.towers": "width"}
"""Settings that have settings of their own -> one of these."""


def check_training(argv: Sequence[str]) -> None:
    """Refuse mistakes in the arguments of ``pacl train``.

    Raises:
        UserError: a file that does not exist, an unknown setting, an invalid number, another class without its
            configuration, or ``--out`` is in use.
    """
    words = with_config(argv, TRAIN_CONFIG)
    if _only_asks(words):
        return
    settings = read_settings(words)
    check_groups(settings)
    check_class(argv, "data", _class_of("data", settings), ("None", "SceneData"), "configs/own_photos.yaml")
    check_flags(words, {**TRAINER, **MODEL, **_caption_settings(words, settings)})
    check_numbers(settings, limits.HEAD)
    check_files(settings)
    folder, given = Path(str(settings.get("out") or TRAIN_OUT)), settings.get("ckpt_path")
    if not _is_text(given):
        return
    checkpoint = checkpoint_path(folder, given)
    check_checkpoint_exists(checkpoint, given)
    if is_first_process():
        check_kind(folder, "head", "out")
        check_card(folder, "out")
        if not (settings.get("overwrite") or resumes(folder, checkpoint)):
            check_unused(folder, results_of("head"), "out", advice_for(folder))


def say_default(argv: Sequence[str]) -> str | None:
    """A note on what ``pacl train`` does without a configuration; None with one, and where nothing is trained."""
    if _only_asks(argv) or _names_config(argv) or not is_first_process():
        return None
    return "no --config: a trial on drawn scenes; for photos of your own, --config configs/own_photos.yaml"


def check_pretraining(argv: Sequence[str]) -> None:
    """Refuse mistakes in the arguments of ``pacl pretrain``.

    Raises:
        UserError: a file that does not exist, an unknown setting, another class without its configuration, or
            ``--export.folder`` is in use.
    """
    words = with_config(argv, PRETRAIN_CONFIG)
    if _only_asks(words):
        return
    settings = read_settings(words)
    check_groups(settings)
    check_class(argv, "model", _class_of("model", settings), ("None", "CLIPModule"), "configs/flickr8k_dual.yaml")
    model = _pretrained_settings(words, settings)
    check_flags(words, {**TRAINER, **model, **_caption_settings(words, settings)})
    if model:
        check_numbers(settings, limits.CLIP if model == CLIP else limits.DUAL_ENCODER)
    check_files(settings)
    if (given := settings.get("export.folder")) and is_first_process():
        folder = Path(str(given))
        check_kind(folder, "pretrained model", "export.folder")
        if not settings.get("overwrite"):
            check_unused(folder, results_of("pretrained model"), "export.folder", DUAL_ENCODER_ADVICE)


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """The settings of configurations and flags in their order, by name: "data.pairs", "data.class_path", "out".

    A flag's value is its text, None for "null", and True where it has none.

    Raises:
        UserError: a configuration is not YAML, or has a setting twice.
    """
    settings: dict[str, Any] = {}
    for flag, value in flags_of(words):
        if flag in CONFIG_FLAGS:
            try:
                settings |= dict(_flat(parse_yaml(Path(str(value)).read_text(encoding="utf-8"))))
            except yaml.YAMLError as error:  # the parser does not mind a setting that is there twice
                raise UserError(f"{value}: is not valid YAML ({' '.join(str(error).split())})") from None
            except (OSError, ValueError, RecursionError):
                pass  # the parser says what is wrong
        else:
            name = flag.lstrip("-").replace(".init_args.", ".")
            settings[name] = {None: True, "null": None}.get(value, value)
    return settings


def flags_of(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Flags with their values; None is a flag without one."""
    for word, following in zip_longest(words, words[1:]):
        if word.startswith("-") and word.lstrip("-")[:1].isalpha():
            flag, equals, value = word.partition("=")
            if not equals:
                value = None if following is None or following.startswith("--") else following
            yield flag, value


def check_flags(words: Sequence[str], groups: dict[str, list[tuple[str, str, str]]]) -> None:
    """Refuse unknown settings, and words in the place of numbers.

    Args:
        words: of the command line.
        groups: as `TRAINER`; settings of other groups are not checked.

    Raises:
        UserError: in the words of the parser.
    """
    found = {group: dict(_arguments(of)) for group, of in groups.items()}
    groups = {group: of for group, of in groups.items() if found[group]}
    types = {f"{group}.{name}": kind for group, own in found.items() for name, kind in own.items()}
    last = {name.rpartition(".")[2] for name in types}
    for flag, value in flags_of(words):
        name = flag.lstrip("-").replace(".init_args.", ".").rstrip("+")
        group, dot, rest = name.partition(".")
        known = f"{group}.{rest.partition('.')[0]}" in types or rest == "class_path"
        if (group in groups and dot and not known) or (not dot and name.replace("-", "_") in last):
            raise UserError(f"{flag}: no such option; {suggest(flag, sorted(types)) or 'see --help'}")
        kind = types.get(name, "").removesuffix(" | None")
        if kind in ("int", "float") and value not in (None, "null", ".inf", "-.inf", ".nan"):
            try:
                float(str(value))
            except ValueError:
                raise UserError(f"{flag} {value}: must be of type {kind}") from None


def check_class(argv: Sequence[str], group: str, own: str, default: Sequence[str], example: str) -> None:
    """Refuse another class with the default configuration, whose settings of the same names it would get.

    Args:
        argv: of the command line.
        group: "model" or "data".
        own: the name of the class.
        default: names of that of the default configuration.
        example: a configuration for another class.

    Raises:
        ArgumentError: there is no ``--config``.
    """
    if own not in default and not _names_config(argv):
        raise ArgumentError(group, own, f"needs a --config, such as {example}: the default one is for {default[-1]}")


def check_groups(settings: dict[str, Any]) -> None:
    """Refuse null for a group of settings, which is a traceback in the parser.

    Raises:
        ArgumentError: it is null.
    """
    for name, example in GROUPS.items():
        if settings.get(name, ()) is None:
            raise ArgumentError(name, "null", f"has settings of its own, such as --{name}.{example}; leave it out")


def check_numbers(settings: dict[str, Any], least: dict[str, int]) -> None:
    """Refuse numbers of the model that are too small; what is no number is left to the parser.

    Args:
        settings: of `read_settings`.
        least: of the class of the model, see `pacl.training.limits`.

    Raises:
        ArgumentError: one is below its least value.
    """
    for name, minimum in least.items():
        try:
            text = str(settings.get(f"model.{name}"))
            value = int(text) if text.lstrip("-").isdecimal() else float(text)
        except ValueError:
            continue
        limits.check_least({f"model.{name}": value}, **{f"model.{name}": minimum})


def check_files(settings: dict[str, Any]) -> None:
    """Refuse tables and folders of captioned images that do not exist.

    Raises:
        UserError: one does not exist.
    """
    if not _has_captions(settings):
        return
    from pacl.data.sources import Source

    own = {name: settings.get(f"data.{name}") for name in ("pairs", "images")}
    lists = [settings.get(f"data.{name}") for name in ("train", "val")]
    for each in [own, *(each for one in lists if isinstance(one, list) for each in one)]:
        if isinstance(each, dict) and each.get("pairs") and _is_text(each["pairs"]) and _is_text(each.get("images")):
            Source(each["pairs"], each.get("images")).check_exists()


def _is_text(value: Any) -> bool:
    """Whether a setting is a text or null; numbers and flags without a value are left to the parser."""
    return value is None or isinstance(value, str)


def _only_asks(words: Sequence[str]) -> bool:
    """Whether the command line asks for help or settings, and nothing is trained."""
    names = [flag.lstrip("-") for flag, _ in flags_of(words)]
    return any(name in ("h", "version", "print_config") or name.rpartition(".")[2] == "help" for name in names)


def _class_of(group: str, settings: dict[str, Any]) -> str:
    name = settings.get(group) or settings.get(f"{group}.class_path")
    return str(name).rpartition(".")[2]


def _names_config(argv: Sequence[str]) -> bool:
    return any(flag in CONFIG_FLAGS for flag, _ in flags_of(argv))


def _has_captions(settings: dict[str, Any]) -> bool:
    return _class_of("data", settings) == "CaptionData"


def _caption_settings(words: Sequence[str], settings: dict[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """`CAPTIONS`, unless a flag changes the class of the data: flags before it are of the former class."""
    return CAPTIONS if _has_captions(settings) and not _changes("data", words) else {}


def _pretrained_settings(words: Sequence[str], settings: dict[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """`CLIP` or `DUAL_ENCODER`, as for `_caption_settings`; nothing for other classes."""
    known = {"None": CLIP, "CLIPModule": CLIP, "DualEncoderModule": DUAL_ENCODER}
    return {} if _changes("model", words) else known.get(_class_of("model", settings), {})


def _changes(group: str, words: Sequence[str]) -> bool:
    return any(flag in (f"--{group}", f"--{group}.class_path") for flag, _ in flags_of(words))


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, prefix if key == "init_args" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _arguments(classes: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
    """Name and type of the arguments of classes, read from their source, since importing them is what takes long.

    Nothing, where a package is not there or has another layout: the parser of the training knows them all the same.
    """
    for package, file, name in classes:
        spec = find_spec(package)
        root = Path(*((spec and spec.submodule_search_locations) or ())[:1])
        if not (root / file).is_file():
            return
        for owner in ast.parse((root / file).read_text(encoding="utf-8")).body:
            if isinstance(owner, ast.ClassDef) and owner.name == name:
                yield from _arguments_of(owner)


def _arguments_of(owner: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for node in owner.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = [*node.args.args[1:], *node.args.kwonlyargs]
            yield from ((each.arg, ast.unparse(each.annotation) if each.annotation else "") for each in arguments)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, ast.unparse(node.annotation)
