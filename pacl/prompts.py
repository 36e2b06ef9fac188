"""Prompts and their labels, class files, prompt templates, and words of prompts."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pacl.class_files import label_lines, text_lines
from pacl.errors import ArgumentError, UserError
from pacl.printing import quoted

MAX_LABELS = 65_534
"""16-bit masks: 0 is the background, and 65535 is left free for "ignore"."""


def split_words(text: str) -> list[str]:
    """The words and numbers of a text in lower case, without punctuation."""
    return re.findall(r"[^\W_]+", text.lower())


def _join_spaces(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True)
class Label:
    """A label and the prompts (synonyms) that all mean it.

    Attributes:
        name: what legends and files show.
        prompts: one or more texts; the score of the label at a pixel is the highest score of its prompts.

    Raises:
        ArgumentError: ``name`` is no text, or ``prompts`` are not several (a text would be taken for its letters); one
            of them is empty. Spaces around them are removed.
    """

    name: str
    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError("name", repr(self.name), "must be a text")
        if not isinstance(self.prompts, (tuple, list)) or not all(isinstance(each, str) for each in self.prompts):
            raise ArgumentError("prompts", repr(self.prompts), 'must be a tuple of texts, such as ("a dog",)')
        object.__setattr__(self, "name", self.name.strip())
        object.__setattr__(self, "prompts", tuple(each.strip() for each in self.prompts))  # (a list cannot be hashed)
        if not self.name:
            raise ArgumentError("name", repr(self.name), "is empty; every label needs one")
        if not self.prompts or not all(self.prompts):
            reason = 'must be one or more texts, none empty, such as ("a dog",)'
            raise ArgumentError("prompts", repr(self.prompts), reason)


def parse_prompt(text: str) -> Label:
    """Parse ``prompt``, ``prompt=label`` or ``prompt;synonym=label``.

    Without ``=``, the first prompt is the label. Prompts may contain ``=``: the last one separates the label. Repeated
    spaces, empty synonyms (a trailing ``;``) and repeated synonyms are removed.

    Raises:
        UserError: the prompt or the label is empty.

    Warns:
        UserWarning: a synonym is repeated.
    """
    left, equals, right = text.rpartition("=")
    prompts, name = (left, _join_spaces(right)) if equals else (right, "")
    given = Counter(_join_spaces(prompt) for prompt in prompts.split(";") if prompt.strip())
    synonyms = tuple(given)
    if not synonyms:
        raise UserError(f'empty prompt {quoted(text)}: write it as "a dog" or "a dog=label"')
    if equals and not name:
        raise UserError(f'prompt {quoted(text)} has no label after "=": write it as {quoted(synonyms[0] + "=label")}')
    if twice := [prompt for prompt, count in given.items() if count > 1]:
        warnings.warn(
            f"{quoted(twice[0])} is there twice in {quoted(_join_spaces(text))} and counts once", stacklevel=2
        )
    return Label(name or synonyms[0], synonyms)


def read_classes(
    path: str | Path, *, shared_prompts: bool = False, first_id: int | None = None, numbers: bool = False
) -> list[Label]:
    """Read a class file: one label per line, in the notation of `parse_prompt`; ``#`` starts a comment.

    Examples of lines: ``cat``, ``cat;kitten`` (the first is the label), ``a cat;a kitten=cat``. Some lists of other
    tools are read as well, see `pacl.class_files.label_lines`.

    Args:
        path: the file.
        shared_prompts: see `check_labels`.
        first_id: where labels stand for the values of masks: the value of the first. The ids of a file that has some
            must count up from it.
        numbers: whether labels may be numbers, as in ``a cat=1``.

    Raises:
        UserError: the file cannot be read, has no classes, or has an invalid line.
    """
    labels = []
    lines: dict[str, tuple[int, Label]] = {}
    for number, line in label_lines(path, first_id, numbers):
        try:
            label = parse_prompt(line)
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        labels.append(label)
        before, former = lines.setdefault(_folded(label.name), (number, label))
        if before != number:
            raise UserError(f"{path}, lines {before} and {number}: {_say_twice(label, former)}")
    if not labels:
        raise UserError(f'class file {path} has no classes: write one per line, such as "cat" or "cat;kitten"')
    try:
        return check_labels(labels, shared_prompts=shared_prompts)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _folded(text: str) -> str:
    """What is the same for texts that differ in case, or in how an accent is encoded."""
    return unicodedata.normalize("NFC", text.casefold())


def _say_twice(label: Label, former: Label) -> str:
    """An error of two labels with one name."""
    alike = "is given twice" if former.name == label.name else f"is {quoted(former.name)} in other letters"
    is_same = [*map(_folded, former.prompts)] == [*map(_folded, label.prompts)]
    advice = "delete or rename one" if is_same else f"join synonyms as {quoted('one;other=' + former.name)}"
    return f"label {quoted(label.name)} {alike}: {advice}"


def check_labels(
    labels: Sequence[Label],
    *,
    count_tokens: Callable[[str], int] | None = None,
    context_length: int = 77,
    templates: Sequence[str] = ("{}",),
    shared_prompts: bool = False,
) -> list[Label]:
    """Check a list of labels for mistakes that would give wrong results without an error.

    Args:
        labels: the labels in order.
        count_tokens: number of tokens of a text, including the start and end tokens, by the tokenizer of the model.
            None: the length of prompts, and whether the model knows any of their words, is not checked.
        context_length: maximum number of tokens; the model would truncate a longer text without a warning.
        templates: templates that the prompts are put into; their words count as well.
        shared_prompts: allow the same prompt in two labels, whose scores then tie. Some published lists have such:
            "bed" is a class of COCO-Object and one of its words for the background.

    Returns:
        The labels, as a list.

    Raises:
        UserError: there are no labels or too many; a label is given twice; two labels share a prompt (in
            upper or lower case) although that is not allowed; a prompt is too long or has no known token.
    """
    if not labels:
        raise UserError('no prompts: give at least one, such as "a dog"')
    if len(labels) > MAX_LABELS:
        raise UserError(f"{len(labels)} labels: at most {MAX_LABELS} fit a 16-bit mask; split the list")
    names: dict[str, Label] = {}
    owners: dict[str, str] = {}
    for label in labels:
        if any("\ud800" <= letter <= "\udfff" for text in (label.name, *label.prompts) for letter in text):
            raise UserError(f"prompt {label.name!a} has bytes that are not UTF-8 text")
        former = names.get(_folded(label.name))
        if former is not None:
            raise UserError(_say_twice(label, former))
        names[_folded(label.name)] = label
        for prompt in dict.fromkeys(map(_folded, label.prompts)):
            if prompt in owners and not shared_prompts:
                two = f"{quoted(owners[prompt])} and {quoted(label.name)}"
                raise UserError(f"prompt {quoted(prompt)} belongs to two labels, {two}: keep one")
            owners[prompt] = label.name
    if count_tokens is not None:
        # The longest template is the same for all prompts, except that templates may drop the article of a prompt:
        # hence two probes.
        longest = {max(templates, key=lambda t: count_tokens(fill(t, probe))) for probe in ("x", "a x")}
        for prompt in (p for label in labels for p in label.prompts):
            if not count_tokens(_ARTICLE.sub("", prompt)):
                raise UserError(f"prompt {quoted(prompt)}: the model knows none of its words; use English")
            tokens = max(count_tokens(fill(template, prompt)) for template in longest)
            if tokens > context_length:
                raise UserError(
                    f"prompt {quoted(prompt)} is too long: {tokens} tokens in its template, "
                    f"the model reads {context_length}; use fewer words"
                )
    return list(labels)


# --- Templates ------------------------------------------------------------------------------------

TEMPLATES: dict[str, tuple[str, ...]] = {
    "none": ("{}",),
    "photo": ("a photo of a {}.",),
    # The seven of the PACL paper (CLIP's short list for ImageNet).
    "paper": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
}
TEMPLATE_NAMES = (*TEMPLATES, "imagenet")  # "imagenet" is imported from open_clip when it is used


def check_templates(name_or_file: str | Path) -> None:
    """Refuse templates that `get_templates` does not find.

    Raises:
        ArgumentError: there is no such name or file.
    """
    name = str(name_or_file)
    if name not in TEMPLATE_NAMES and not os.path.exists(name):  # a `Path` raises an error for a long text
        raise ArgumentError("templates", name, f"no such name ({', '.join(TEMPLATE_NAMES)}) and no such file")


def get_templates(name_or_file: str | Path) -> tuple[str, ...]:
    """Templates by name (``none``, ``photo``, ``paper``, ``imagenet``) or from a text file, one per line.

    Raises:
        UserError: there is no such name or file, or a line of the file does not have exactly one ``{}``.
    """
    name = str(name_or_file)
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name == "imagenet":
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES  # CLIP's 80

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    check_templates(name)
    templates = []
    for number, line in text_lines(name, "template file"):
        if line.count("{}") != 1:
            raise UserError(
                f'{name}, line {number}: "{line}" needs one {{}} for the prompt, as in "a photo of a {{}}."'
            )
        templates.append(line)
    if not templates:
        raise UserError(f'template file {name} has no templates: write one per line, such as "a photo of a {{}}."')
    return tuple(templates)


_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=\S)", re.IGNORECASE)
_DETERMINERS = frozenset(
    split_words("a an the my your his her its our their this that these those some many several one two every each")
)
_PHRASE_STARTS = frozenset(split_words("of in on at by with from for and or"))


def fill(template: str, prompt: str) -> str:
    """Put a prompt into a template without a double article.

    "a photo of a {}." and "a dog" become "a photo of a dog.": the article of the prompt is dropped if the noun phrase
    of the template at ``{}`` has a determiner (a, the, my, many, ...), or if a plural s follows. "a photo of {}." and
    "{}" keep it. Nothing else changes; "a origami {}." stays as published.
    """
    before, _, after = template.partition("{}")
    words = re.findall(r"[\w']+", before.lower())
    starts = [i for i, word in enumerate(words) if word in _PHRASE_STARTS]
    phrase = words[starts[-1] + 1 :] if starts else words
    if after.startswith("s") or not _DETERMINERS.isdisjoint(phrase):
        prompt = _ARTICLE.sub("", prompt)
    return before + prompt + after


# --- Contrast prompts -----------------------------------------------------------------------------

# The classes of COCO-Stuff (Caesar, Uijlings, Ferrari, CVPR 2018; its things: COCO, Lin et al., ECCV 2014) in plain
# English, without near repetitions ("wall-panel", "structural-other", ...): names that take "a" or "an", and others.
_COUNTABLE = """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
    stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
    backpack, umbrella, handbag, tie, suitcase, frisbee, snowboard, ball, kite, baseball bat, baseball
    glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl,
    banana, apple, sandwich, orange, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant,
    bed, table, toilet, television, laptop, computer mouse, remote control, keyboard, cell phone,
    microwave, oven, toaster, sink, refrigerator, book, clock, vase, teddy bear, hair drier, toothbrush,
    banner, blanket, branch, bridge, building, bush, cabinet, cage, carpet, counter, cupboard, curtain,
    desk, door, fence, flower, hill, house, lamp, mirror, mountain, napkin, net, pillow, railing,
    railroad, river, road, roof, rug, shelf, skyscraper, tent, towel, tree, wall, window
"""
_WITHOUT_ARTICLE = """
    skis, scissors, broccoli, cardboard, ceiling, cloth, clothes, clouds, dirt, floor, fog, food, fruit,
    grass, gravel, ground, leaves, metal, moss, mud, paper, pavement, plastic, rock, salad, sand, sea,
    sky, snow, stairs, stone, straw, vegetables, brick, concrete, tiles, water, window blinds, wood
"""


def _names(text: str) -> list[str]:
    return [_join_spaces(name) for name in text.split(",")]


GENERIC_CONTRAST: tuple[str, ...] = (
    *(f"{'an' if name[0] in 'aeio' or name == 'umbrella' else 'a'} {name}" for name in _names(_COUNTABLE)),
    *_names(_WITHOUT_ARTICLE),
)
"""Common things and stuff, the default prompts that a single prompt competes with."""

# Words that end a noun phrase.
_LINKS = _PHRASE_STARTS | frozenset(split_words("to that which who is are near under over behind beside between"))
FUNCTION_WORDS = _LINKS | _DETERMINERS
"""Words that name nothing."""


def subjects(prompt: str) -> list[str]:
    """The whole prompt and its main noun (as it is and in the singular), in lower case and without article.

    "a man with a green hat" -> "man with a green hat", "man". The rules are approximate and for English.
    """
    whole = _join_spaces(_ARTICLE.sub("", prompt.lower()))
    words = split_words(whole)
    phrase = words[: next((i for i, word in enumerate(words) if i and word in _LINKS), len(words))]
    heads = phrase[-1:]
    if phrase[1:] and heads[0].endswith("ing"):  # "two dogs running", but "a swimming pool"
        heads.append(phrase[-2])
    forms = [form for head in heads for form in sorted(singular_forms(head))]
    return list(dict.fromkeys([whole, *forms]))


def known_words(texts: Iterable[str]) -> list[str]:
    """The distinct words of texts, sorted: the vocabulary of a model for `unknown_words`."""
    return sorted({word for text in texts for word in split_words(text)})


def unknown_words(prompts: Iterable[str], vocabulary: Collection[str] | None) -> list[str]:
    """Words of the prompts that are not in the vocabulary of a model (None: it is not limited).

    A prompt without words, such as "?" or an emoji, counts as one.
    """
    if vocabulary is None:
        return []
    words = dict.fromkeys(word for prompt in prompts for word in split_words(prompt) or prompt.split())
    return [word for word in words if word not in vocabulary]


def singular_forms(word: str) -> frozenset[str]:
    """A lower-case word and what may be its singular, by its ending and without a dictionary."""
    forms = {word}
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        forms.add(word[:-1])
        if re.search(r"(s|x|z|ch|sh|o)es$", word):
            forms.add(word[:-2])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
    return frozenset(forms)
