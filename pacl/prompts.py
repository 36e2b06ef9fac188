"""Words in: prompts and their labels, class files, prompt templates, and what a lone prompt competes with."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pacl.errors import UserError

MAX_LABELS = 65_534  # label ids are stored in 16 bits at most: 0 is background, 65535 stays free for "ignore"


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _tidy(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True)
class Label:
    """A label and the prompts (synonyms) that all mean it.

    Attributes:
        name: What is painted and written in legends and files.
        prompts: One or more texts; a pixel's score for the label is that of its best prompt.
    """

    name: str
    prompts: tuple[str, ...]


def parse_prompt(text: str) -> Label:
    """Read ``prompt``, ``prompt=label`` or ``prompt;synonym=label``.

    Without ``=`` the first prompt is the label. The last ``=`` divides, so a prompt may hold one itself.
    Spaces are tidied, empty synonyms (a trailing ``;``) and repeated ones dropped.

    Raises:
        UserError: Nothing before or after the ``=``, or no text at all.
    """
    left, equals, right = text.rpartition("=")
    prompts, name = (left, _tidy(right)) if equals else (right, "")
    synonyms = tuple(dict.fromkeys(_tidy(prompt) for prompt in prompts.split(";") if prompt.strip()))
    if not synonyms:
        raise UserError(f'empty prompt "{text}": write it as "a dog" or "a dog=label"')
    if equals and not name:
        raise UserError(f'prompt "{text}" has no label after "=": write it as "{synonyms[0]}=label"')
    return Label(name or synonyms[0], synonyms)


def read_classes(path: str | Path, *, shared_prompts: bool = False) -> list[Label]:
    """Read a class file: a label a line, as `parse_prompt` reads it; ``#`` starts a comment.

    ``cat`` / ``cat;kitten`` (the first is the label) / ``a cat;a kitten=cat``.

    Args:
        path: The file.
        shared_prompts: As `check_labels` takes it.

    Raises:
        UserError: The file is missing, is no text, has no class, or a line (named) cannot be read.
    """
    labels = []
    for number, line in _text_lines(path, "class file"):
        try:
            labels.append(parse_prompt(line))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    if not labels:
        raise UserError(f'class file {path} has no classes: write one a line, such as "cat" or "cat;kitten"')
    try:
        return check_labels(labels, shared_prompts=shared_prompts)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def check_labels(
    labels: Sequence[Label],
    *,
    count_tokens: Callable[[str], int] | None = None,
    context_length: int = 77,
    templates: Sequence[str] = ("{}",),
    shared_prompts: bool = False,
) -> list[Label]:
    """Refuse label lists that would silently give wrong pictures.

    Args:
        labels: The labels in order.
        count_tokens: Number of tokens of a text, start and end included. Only the model's tokenizer knows;
            without it length is not checked, nor whether the model can read the prompts at all.
        context_length: Longest text in tokens that the model reads; it would cut a longer one silently.
        templates: What the prompts will be put into (their words count as well).
        shared_prompts: A prompt may stand under two labels, whose scores for it tie. Published lists do so: "bed" is
            a class of COCO-Object and in its words for the background.

    Returns:
        The labels, as a list.

    Raises:
        UserError: No labels or too many, an empty one, a label given twice, a prompt under two labels (to
            CLIP upper and lower case are the same) unless that is allowed, a prompt that is too long or has no
            known token.
    """
    if not labels:
        raise UserError('no prompts: give at least one, such as "a dog"')
    if len(labels) > MAX_LABELS:
        raise UserError(f"{len(labels)} labels: at most {MAX_LABELS} fit a 16-bit mask; split the list")
    names: set[str] = set()
    owners: dict[str, str] = {}
    for label in labels:
        if any("\ud800" <= letter <= "\udfff" for text in (label.name, *label.prompts) for letter in text):
            raise UserError(f"prompt {label.name!a} holds bytes that are no text: type it in UTF-8")
        if not label.name.strip() or not label.prompts or not all(p.strip() for p in label.prompts):
            raise UserError(f'empty prompt under label "{label.name}": every label needs a name and a text')
        if label.name.casefold() in names:
            raise UserError(f'label "{label.name}" is given twice: join synonyms as "one;other={label.name}"')
        names.add(label.name.casefold())
        for prompt in dict.fromkeys(p.casefold() for p in label.prompts):
            if prompt in owners and not shared_prompts:
                owner = owners[prompt]
                raise UserError(f'prompt "{prompt}" belongs to two labels, "{owner}" and "{label.name}": keep one')
            owners[prompt] = label.name
    if count_tokens is not None:
        # Token counts add up over words, so the longest template is the longest for every prompt; whether a
        # template swallows the prompt's article can change the order by one, hence two probes.
        longest = {max(templates, key=lambda t: count_tokens(fill(t, probe))) for probe in ("x", "a x")}
        for prompt in (p for label in labels for p in label.prompts):
            if not count_tokens(_ARTICLE.sub("", prompt)):
                raise UserError(f'prompt "{prompt}": the model can read no word of it; say it in English')
            tokens = max(count_tokens(fill(template, prompt)) for template in longest)
            if tokens > context_length:
                shown = prompt if len(prompt) <= 60 else prompt[:57] + "..."
                raise UserError(
                    f'prompt "{shown}" is too long: {tokens} tokens in its template, '
                    f"the model reads {context_length}; say it in fewer words"
                )
    return list(labels)


# --- Templates ------------------------------------------------------------------------------------

TEMPLATES: dict[str, tuple[str, ...]] = {
    "none": ("{}",),
    "photo": ("a photo of a {}.",),
    # The seven that the PACL paper averages (CLIP's own short list for ImageNet).
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
TEMPLATE_NAMES = (*TEMPLATES, "imagenet")  # "imagenet" is read from open_clip only when asked for


def get_templates(name_or_file: str | Path) -> tuple[str, ...]:
    """Templates by name (``none``, ``photo``, ``paper``, ``imagenet``) or from a text file, one a line.

    Raises:
        UserError: Neither a known name nor a file, or a line of the file without exactly one ``{}``.
    """
    name = str(name_or_file)
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name == "imagenet":
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES  # CLIP's 80, by way of open_clip

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    if not Path(name).exists():
        known = ", ".join(TEMPLATE_NAMES)
        raise UserError(f'templates "{name}": no such name ({known}) and no such file')
    templates = []
    for number, line in _text_lines(name, "template file"):
        if line.count("{}") != 1:
            raise UserError(
                f'{name}, line {number}: "{line}" needs one {{}} for the prompt, as in "a photo of a {{}}."'
            )
        templates.append(line)
    if not templates:
        raise UserError(f'template file {name} has no templates: write one a line, such as "a photo of a {{}}."')
    return tuple(templates)


_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=\S)", re.IGNORECASE)
_DETERMINERS = frozenset(
    _words("a an the my your his her its our their this that these those some many several one two every each")
)
_PHRASE_STARTS = frozenset(_words("of in on at by with from for and or"))


def fill(template: str, prompt: str) -> str:
    """Put a prompt into a template without doubling its article.

    "a photo of a {}." takes "a dog" as "a photo of a dog.": where the noun phrase that ends at ``{}``
    already has a determiner (a, the, my, many, ...), or a plural s follows, the prompt's a / an / the goes.
    "a photo of {}." and "{}" keep it. Nothing else is touched; "a origami {}." stays as published.
    """
    before, _, after = template.partition("{}")
    words = re.findall(r"[\w']+", before.lower())
    starts = [i for i, word in enumerate(words) if word in _PHRASE_STARTS]
    phrase = words[starts[-1] + 1 :] if starts else words
    if after.startswith("s") or not _DETERMINERS.isdisjoint(phrase):
        prompt = _ARTICLE.sub("", prompt)
    return before + prompt + after


# --- Contrast prompts -----------------------------------------------------------------------------

# What a single prompt competes with when a real CLIP is asked: common things and stuff. The names are
# COCO-Stuff's classes (Caesar, Uijlings, Ferrari, CVPR 2018; its things: COCO, Lin et al., ECCV 2014) in
# plain English, near repetitions ("wall-panel", "structural-other", ...) left out.
_THINGS = """
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
_STUFF = """
    skis, scissors, broccoli, cardboard, ceiling, cloth, clothes, clouds, dirt, floor, fog, food, fruit,
    grass, gravel, ground, leaves, metal, moss, mud, paper, pavement, plastic, rock, salad, sand, sea,
    sky, snow, stairs, stone, straw, vegetables, brick, concrete, tiles, water, window blinds, wood
"""


def _names(text: str) -> list[str]:
    return [_tidy(name) for name in text.split(",")]


GENERIC_CONTRAST: tuple[str, ...] = (
    *(f"{'an' if name[0] in 'aeio' or name == 'umbrella' else 'a'} {name}" for name in _names(_THINGS)),
    *_names(_STUFF),
)

# Words that cannot be before the main noun of a phrase.
_LINKS = _PHRASE_STARTS | frozenset(_words("to that which who is are near under over behind beside between"))

# Words that carry no content of their own: articles, and what prompts are wrapped in.
_EMPTY_WORDS = frozenset(
    _words("a an the some this that of in on at and with is are there photo photograph picture image itap")
)


def competitors(prompts: Iterable[str], contrast: Iterable[str]) -> list[str]:
    """The contrast prompts that a pixel may win against `prompts`: those that do not say the same.

    A contrast prompt that says everything a prompt says is no rival of it but an instance: "a red fish" must
    not take the pixels of "a fish". "a blue fish", "a fish" and "grass" all compete with "a red fish".
    Content words are compared; articles and wrapping ("a photo of") do not count, nor does a plural s.

    Args:
        prompts: What the user asked for, synonyms included.
        contrast: The model's contrast prompts.

    Returns:
        What is left of `contrast`, in order, without repetitions.
    """
    asked = [words for words in map(_content_words, prompts) if words]
    return [
        rival
        for rival in dict.fromkeys(contrast)
        if not any(_says_all(_content_words(rival), words) for words in asked)
    ]


def subjects(prompt: str) -> list[str]:
    """What a prompt may be about: all of it and its main noun, lower-case and without article, in the singular too.

    "a man with a green hat" -> "man with a green hat", "man"; the rules are rough and for English.
    """
    whole = _tidy(_ARTICLE.sub("", prompt.lower()))
    words = _words(whole)
    phrase = words[: next((i for i, word in enumerate(words) if i and word in _LINKS), len(words))]
    heads = phrase[-1:]
    if phrase[1:] and heads[0].endswith("ing"):  # "two dogs running", but "a swimming pool"
        heads.append(phrase[-2])
    forms = [form for head in heads for form in sorted(_forms(head))]
    return list(dict.fromkeys([whole, *forms]))


def known_words(texts: Iterable[str]) -> list[str]:
    """The words of texts that a model was trained on, sorted: a `vocabulary` for `unknown_words`."""
    return sorted({word for text in texts for word in _words(text)})


def unknown_words(prompts: Iterable[str], vocabulary: Collection[str] | None) -> list[str]:
    """Words of the prompts that a model with a closed `vocabulary` has never read (None: it is open)."""
    if vocabulary is None:
        return []
    words = dict.fromkeys(word for prompt in prompts for word in _words(prompt))
    return [word for word in words if word not in vocabulary]


def _says_all(rival: list[frozenset[str]], words: list[frozenset[str]]) -> bool:
    return all(any(not word.isdisjoint(other) for other in rival) for word in words)


def _content_words(prompt: str) -> list[frozenset[str]]:
    """Each content word as the set of its possible singular forms, so that no dictionary is needed."""
    return [_forms(word) for word in _words(prompt) if word not in _EMPTY_WORDS]


def _forms(word: str) -> frozenset[str]:
    forms = {word}
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        forms.add(word[:-1])
        if re.search(r"(s|x|z|ch|sh|o)es$", word):
            forms.add(word[:-2])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
    return frozenset(forms)


def _text_lines(path: str | Path, what: str) -> list[tuple[int, str]]:
    """The (number, text) of a text file's lines that hold something, comments taken off."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} is not a UTF-8 text file") from None
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror or error}") from None
    lines = [(n, _tidy(re.sub(r"(^|\s)#.*", "", line))) for n, line in enumerate(text.splitlines(), start=1)]
    return [(n, line) for n, line in lines if line]
