"""Mistakes in the settings of a training, in one line: jsonargparse's messages, with the flag that was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from pacl.errors import ask_meant

UNKNOWN = re.compile(r"unrecognized arguments: (--?[\w.-]+)")
KEY = re.compile(r'Parser key "([\w.]+)"')
NOT_ACCEPTED = re.compile(
    r"(?:Problem with given class_path '(?P<owner>[\w.]+)':\s+)?"
    r"(?:Group '(?P<group>[\w.]+)' does not accept option '(?P<key>[\w.]+)'"
    r"|Option '(?P<option>[\w.]+)' is not accepted|unrecognized arguments: --(?P<flag>[\w.-]+))"
)
NO_CLASS = re.compile(r"Unable to load config ['\"](.*?)['\"]")
WRONG_VALUE = re.compile(r"Expected an? (.*?)\. Got value: (.*)")
GIVEN = re.compile(r"Given value: (.*)")
CHOICES = re.compile(r"typing\.Literal\[(.*?)\]")
WORD = r"[\w-]+"
TYPE = re.compile(r"<class '([\w.]+)'>")

OF_CAPTIONS = ("pairs", "images", "names", "hold_out", "train", "val")
"""Settings of `pacl.data.CaptionData` that other data modules do not have."""

SAME_THING = (
    ("lr", "learning_rate", "head_lr"),  # the first two modules of training call it so, the third has several
    ("weight_decay", "wd"),
    ("warmup", "warmup_steps"),
    ("batch_size", "bs", "batch", "train_batch_size", "per_device_train_batch_size"),
    ("max_epochs", "epochs", "num_epochs", "num_train_epochs"),
    ("max_steps", "steps", "num_steps", "num_train_steps"),
    ("workers", "num_workers", "dataloader_num_workers"),
    ("out", "export.folder", "output", "output_dir", "out_dir", "save_dir"),
    ("ckpt_path", "resume", "resume_from", "resume_from_checkpoint"),
    ("devices", "gpus", "num_gpus"),
)
"""Settings as they are named here, and the last parts of their names in other programs."""


def describe_mistake(message: str, known: Collection[str]) -> str:
    """The message of a parser in one line.

    Args:
        message: of jsonargparse.
        known: all settings, such as "trainer.max_steps".
    """
    keys = [key for key in KEY.findall(message) if key]
    if found := UNKNOWN.match(message):
        return f"{found[1]}: no such option; {suggest(found[1], known) or 'see --help'}"
    if found := NOT_ACCEPTED.search(message):
        own = found["key"] or found["option"] or found["flag"]
        flag = "--" + ".".join(filter(None, [*keys[:1], found["group"], own]))
        hint = suggest(flag, known) or "see --help"
        if found["owner"] and own in OF_CAPTIONS:
            hint = "for your own images begin with --config configs/own_photos.yaml"
        what = f"{found['owner']} has no such setting" if found["owner"] else "no such option"
        return f"{flag}: {what}; {hint}"
    if keys and (found := NO_CLASS.search(message)):
        main = f"{keys[0]}.backbone"
        hint = ask_meant([f"--{main} {found[1]}"]) if main in known else "give a class, or a YAML file"
        return f"--{keys[0]} {found[1]}: neither a class nor a file; {hint}"
    name = ".".join(dict.fromkeys(keys))
    if keys and len(wrong := WRONG_VALUE.findall(message)) == 1:
        kind, got = wrong[0]
        if literal := CHOICES.search(kind):
            return f"--{name} {got}: must be one of {', '.join(re.findall(WORD, literal[1]))}"
        if "float" in kind and got.strip("+-.").lower() == "inf":
            return f"--{name} {got}: must be a number; infinity is written .inf"
        return f"--{name} {got}: must be of type {', '.join(TYPE.findall(kind)) or kind}"
    if keys and (found := GIVEN.search(message)):
        choices = dict.fromkeys(re.findall(WORD, ", ".join(CHOICES.findall(message))))
        types = dict.fromkeys(TYPE.findall(message.partition("Errors:")[0]))
        return f"--{name} {found[1]}: must be one of {', '.join([*choices, *types])}"
    return message


def suggest(flag: str, known: Collection[str]) -> str:
    """The setting that a flag was meant to be, as a question; empty if none is like it.

    >>> suggest("--max_steps", ["trainer.max_steps", "model.lr"])
    'did you mean --trainer.max_steps?'
    """
    name = flag.lstrip("-").replace("-", "_")
    known = [key for key in known if not f"{name}.".startswith(f"{key}.")]  # the class may be another than expected
    last, own = {key: key.rpartition(".")[2] for key in known}, name.rpartition(".")[2]
    alike = [own, *next((names for names in SAME_THING if own in names), ())]
    found = ([key for key in known if each in (key, last[key])] for each in alike)
    same = next(filter(None, found), [])
    close = difflib.get_close_matches(name, same or known, n=1, cutoff=0.0 if same else 0.75)
    if not close:
        parts = difflib.get_close_matches(own, [*last.values()], n=1, cutoff=0.8)
        close = [key for key in known if parts and last[key] == parts[0]][:1]
    return ask_meant(f"--{each}" for each in close)
