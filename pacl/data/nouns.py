"""The nouns of captions, for prompts that stand beside the caption ("a photo of the large {}.").

    caption -> words -> part-of-speech tags (textblob) -> corrected tags -> runs of nouns -> singular nouns

The tagger is textblob's `PatternTagger`: the lexicon of Brill, "A simple rule-based part of speech tagger" (1992), a
word's most frequent tag, with endings for unknown words; the package carries it as plain text, so nothing is
downloaded. It does not look at the neighbours: "jumps" is a plural to it, in "a dog jumps" too. What else a word can be
(lemminflect's lexicon) and the grammar around it settle most of these. Both packages come with `pacl[nouns]`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pacl.errors import UserError
from pacl.files import atomic_write, make_folder

RULES = 1
"""Version of the rules and lists below. Raise it with every change to them: older caches are then ignored."""

# --- Lists ------------------------------------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


UNSEEN = _set(
    # parts of the picture, and places relative to other things
    "front side back background foreground top bottom middle center centre edge end corner distance direction left"
    " right inside outside indoor indoors outdoor outdoors onstage half part area place spot location position space"
    " way midair air midst line"
    # the picture itself
    " picture photo photograph image view shot scene closeup close-up illustration stock vector"
    # amounts, collections and words for anything
    " group couple pair lot number bunch set series row variety collection pile flock herd piece kind sort type"
    " style dozen amount other one something someone somebody anything anyone nothing everything everyone everybody"
    " thing object item"
    # times, doings, states, properties
    " time day moment morning afternoon evening today while year minute second start use activity action trick help fun"
    " attempt motion balance life control jump leap ride run walk swim dive climb hike turn catch throw toss kick hit"
    " fall slip splash move talk smile laugh look pose point score play dance fight chase hug kiss rest break stretch"
    " flight shape size color colour shade"
    # words that the tagger takes for nouns
    " whilst headfirst n st"
)
"""Words that name nothing one could point at in a picture, in the singular."""

COMPOUNDED = _set("lot set piece area control line")
"""Those of `UNSEEN` that are things behind another noun: "parking lot", "swing set"."""

COLOURS = _set("black white red blue green yellow pink purple brown grey gray tan beige maroon teal gold silver neon")
"""Never nouns here: "a girl in pink". Orange is one only where it must be the fruit."""

ACTORS = _set(
    "man woman boy girl child kid person baby toddler guy lady mom dad mother father dog puppy crowd team player rider"
    " biker cyclist climber skater skateboarder skier snowboarder surfer runner racer"
)
"""What captions begin with: after these, a word that may be a verb is one ("man rides", "dog paws at")."""

MODIFIERS = _set(
    "bathing bowling boxing climbing cutting dining diving fishing frying hiking ironing living parking racing rocking"
    " rowing sewing shopping skating skiing swimming washing wedding"
)
"""Forms in -ing that say what the next noun is for ("swimming pool"); others say what it does ("running dog")."""

GERUNDS = _set(
    "bedding building carving clothing coating covering crossing drawing dressing filling flooring frosting icing"
    " landing lighting netting opening painting railing scaffolding siding stuffing topping tubing wedding"
)
"""Forms in -ing of verbs that are things themselves."""

NAMES = frozenset(
    {"hot dog", "teddy bear", "polar bear", "french fry", "high chair", "remote control", "train track", "tote bag"}
)
"""Things of whose names the tagger takes a part for no noun."""

PLURALS = re.compile(
    r".*(?:pants|shorts|glasses|clothes|trousers|trunks|headphones)|woods|belongings|rapids|sports|graffiti|media|dice"
)
"""Words that stay as they are, though the lexicon has a singular: a pair of shorts is no short."""

SINGULARS = {"people": "person", "leaves": "leaf"}

# --- Words ------------------------------------------------------------------------------------------------------

WORD = re.compile(r"[a-z]+n't|'[a-z]+|[a-z]+(?:-[a-z]+)*|\d+|[!-/:-@[-`{-~]")
NOMINAL = ("NN", "NNS")
VERBAL = ("VB", "VBP", "VBZ", "VBN", "VBD")


def nouns(caption: str) -> tuple[str, ...]:
    """The distinct common nouns of an English caption, in order of appearance.

    Neighbours make one noun ("tennis ball", "hockey stick") when the first ones are singular and name no person, up
    to three words; a form in -ing counts only when it is in `MODIFIERS` ("swimming pool"). Each noun is lower-case and
    singular as far as the lexicon knows it; words in `UNSEEN` and `COLOURS` are left out.

    Args:
        caption: Any text. When less than half of its words are in the lexicons, it is not English and has no nouns.

    Returns:
        The nouns, each one to three words; may be empty. The same caption always gives the same.

    Raises:
        UserError: The packages of `pacl[nouns]` are missing.
    """
    plain = unicodedata.normalize("NFKD", caption.replace("’", "'")).encode("ascii", "ignore").decode().lower()
    words = WORD.findall(plain)
    spelled = [word for word in words if word[0].isalpha()]
    if not spelled or 2 * sum(map(_known, spelled)) < len(spelled):
        return ()
    tags = _tags(words)
    found: list[str] = []
    run: list[str] = []
    for word, tag in zip([*words, ""], [*tags, ""], strict=True):
        noun = tag in NOMINAL
        if run and not (noun and _modifies(run[-1])):
            found += _name(run)
            run = []
        if noun:
            run.append(word)
    return tuple(dict.fromkeys(found))


def _tags(words: list[str]) -> list[str]:
    """Penn Treebank tags of a caption's words, those of nouns corrected by the words around them."""
    tags = [tag for _, tag in _tagger().tag(" ".join(words), tokenize=False)]
    determiner = ""  # of the noun phrase that the word stands in
    for i, word in enumerate(words):
        previous, before = (words[i - 1], tags[i - 1]) if i else ("", "")
        after = tags[i + 1] if i + 1 < len(words) else ""
        kinds, tag = _kinds(word), tags[i]
        if tag in ("DT", "PRP$", "CD"):
            determiner = word
        elif before not in (*NOMINAL, "DT", "PRP$", "CD", "JJ", "POS", "VBG", "VBN"):
            determiner = ""
        if word in COLOURS:
            tags[i] = "JJ"
        elif after and f"{word} {_singular(words[i + 1])}" in NAMES:
            tags[i : i + 2] = "NN", "NN"
        elif word == "orange":
            tags[i] = "NN" if before == "DT" and after not in (*NOMINAL, "JJ", "CC") else "JJ"
        elif word.endswith("ing") and kinds.get("VERB", (word,))[0] != word:
            if word in MODIFIERS and after in NOMINAL and before not in NOMINAL:
                tags[i] = "NN"
            elif tag == "NN" and (word not in GERUNDS or after in ("DT", "PRP$")):
                tags[i] = "VBG"
        elif tag in VERBAL and "NOUN" in kinds and (tag == "VBZ" or word in kinds["NOUN"]):
            if _in_noun_phrase(tag, previous, before, after, determiner):
                tags[i] = "NNS" if tag == "VBZ" else "NN"
        elif tag in NOMINAL and not kinds and _capitalised(word) in ("JJ", "NNP"):
            tags[i] = "JJ"  # "asian", "christmas"
        elif tag in NOMINAL and "VERB" in kinds and before in NOMINAL:
            if _singular(word) == word:
                # No compound begins with a plural: "dogs race".
                if before == "NNS" and _singular(previous) != previous:
                    tags[i] = "VBP"
            # "a" has no plural behind it, and a noun no determiner: "a dog paws at", "the dog bites a".
            elif determiner in ("a", "an", "another", "one", "this", "each") or previous in ACTORS or after == "DT":
                tags[i] = "VBZ"
    return tags


def _in_noun_phrase(tag: str, previous: str, before: str, after: str, determiner: str) -> bool:
    """Whether no verb can stand where the tagger has one."""
    base = tag in ("VB", "VBP")
    if after in NOMINAL and not base:  # "a cut tree"
        return False
    if before == "IN":  # "with sink and stove"
        return base and previous not in ("that", "like", "while", "as")
    if before in ("DT", "PRP$"):  # "in a lift", "a bounce house"
        return previous not in ("that", "all", "both")
    if before == ",":  # "a toilet, sink, and tub"
        return base and after in (",", "CC")
    if before == "JJ":  # "a red sled", but "the girl in the pink stands"
        return bool(determiner) and not (tag == "VBZ" and previous in COLOURS)
    if before == "NN":  # "a bathroom sink", but "watches a bird eat a worm"
        return base and bool(determiner) and previous not in ACTORS and after not in ("DT", "PRP$")
    return tag == "VBZ" and not before  # "leaves on the ground"


def _name(run: Sequence[str]) -> list[str]:
    """The nouns that a run of noun words makes: one, unless it is a keyword list or ends in a word for nothing."""
    *modifiers, head = run
    head = _singular(head)
    if head in UNSEEN and not (modifiers and head in COMPOUNDED):
        return _name(modifiers) if modifiers else []
    if len(run) > 3:
        return [noun for word in run for noun in _name([word])]
    return [" ".join([*modifiers, head])]


def _modifies(word: str) -> bool:
    """Whether a noun can be the first part of a compound: a singular thing."""
    return word not in UNSEEN and (word not in ACTORS or word in ("baby", "dog")) and _singular(word) == word


# --- Data sets --------------------------------------------------------------------------------------------------


def tag_all(captions: Iterable[str], cache: Path | None = None) -> list[tuple[str, ...]]:
    """The nouns of every caption of a data set; equal captions are looked at once.

    Args:
        captions: Any number of texts, in any order.
        cache: Folder that keeps the result. Its file is named by a digest of the distinct captions, the versions of
            the packages and `RULES`; it is read when it fits, and written anew when it is damaged.

    Returns:
        For each caption what `nouns` returns.

    Raises:
        UserError: The packages of `pacl[nouns]` are missing, or the cache cannot be written.
    """
    captions = list(captions)
    distinct = sorted(set(captions))
    if cache is None:
        found = _tag(distinct)
    else:
        made_by = f"{_packages()}, rules {RULES}"
        digest = hashlib.sha256(json.dumps([made_by, distinct]).encode()).hexdigest()
        path = Path(cache) / f"nouns-{digest[:16]}.json"
        kept = _read(path, digest, len(distinct))
        if kept is None:
            make_folder(cache, "cache")  # complains before the work, not after it
            kept = _tag(distinct)
            with atomic_write(path) as aside:
                aside.write_text(json.dumps({"made_by": made_by, "digest": digest, "nouns": kept}), encoding="utf-8")
        found = kept
    of = dict(zip(distinct, found, strict=True))
    return [of[caption] for caption in captions]


def _tag(captions: Sequence[str]) -> list[tuple[str, ...]]:
    """`nouns` of each, with a progress bar on standard error when it takes longer than two seconds."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True))
    task = bar.add_task("Nouns", total=len(captions))
    start = time.monotonic()
    found = []
    with ExitStack() as shown:
        for i, caption in enumerate(captions):
            if i % 256 == 0:
                bar.update(task, completed=i)
                if not bar.live.is_started and time.monotonic() - start > 2:
                    shown.enter_context(bar)
            found.append(nouns(caption))
        bar.update(task, completed=len(captions))
    return found


def _read(path: Path, digest: str, count: int) -> list[tuple[str, ...]] | None:
    """The nouns that a cache file holds, or None where it is missing, damaged or of something else."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["digest"] != digest or len(kept["nouns"]) != count:
            return None
        found = [tuple(words) for words in kept["nouns"] if isinstance(words, list)]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    whole = len(found) == count and all(isinstance(word, str) for words in found for word in words)
    return found if whole else None


# --- Lexicons ---------------------------------------------------------------------------------------------------


PACKAGES = ("textblob", "lemminflect")


def _missing(package: str) -> UserError:
    return UserError(f"nouns of captions: the package {package} is missing; pip install 'pacl[nouns]'")


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(str(error.name).partition(".")[0]) from None


def _packages() -> str:
    """The packages and their versions: what besides the rules decides the nouns."""
    try:
        return ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    except PackageNotFoundError as error:
        raise _missing(str(error.name)) from None


@cache
def _tagger() -> Any:
    return _import("textblob.taggers").PatternTagger()


@lru_cache(1 << 16)
def _kinds(word: str) -> dict[str, tuple[str, ...]]:
    """What a word can be, and of what: "dogs" -> {"NOUN": ("dog",), "VERB": ("dog",)}; unknown words are nothing."""
    return _import("lemminflect").getAllLemmas(word)


@lru_cache(1 << 16)
def _singular(noun: str) -> str:
    if PLURALS.fullmatch(noun):
        return noun
    if noun in SINGULARS:
        return SINGULARS[noun]
    lemmas = _kinds(noun).get("NOUN", ())
    if lemmas:
        return min(lemmas, key=len)  # "jumps" is a lemma of its own, beside "jump"
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is", "os")) else noun


@lru_cache(1 << 16)
def _known(word: str) -> bool:
    return bool(_kinds(word)) or word in _import("textblob.en").lexicon


@lru_cache(1 << 16)
def _capitalised(word: str) -> str:
    """The tag of a word that is written with a capital, which the caption does not: "asian"."""
    lexicon = _import("textblob.en").lexicon
    return "" if word in lexicon else lexicon.get(word.capitalize(), "")
