"""The nouns of captions, which become further texts in templates such as "a photo of the large {}."

    caption -> words -> part-of-speech tags (textblob) -> corrected tags -> runs of nouns -> singular nouns

The tagger is textblob's `PatternTagger` with the lexicon of Brill, "A simple rule-based part of speech tagger" (1992):
the most frequent tag of each word, and rules on the endings of unknown words. The lexicon is part of the package, so
nothing is downloaded. The tagger ignores context: "jumps" is a plural noun, even in "a dog jumps". Most of these errors
are corrected by the other possible tags of a word (lemminflect's lexicon) and the words around it. Both packages are
installed by `pacl[nouns]`.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pacl.errors import UserError
from pacl.files import atomic_write, make_folder
from pacl.progress import Tracked, untracked

RULES = 1
"""Version of the rules and lists below; increase it with every change, so that older caches are ignored."""

# --- Lists ------------------------------------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


UNSEEN = _set(
    # parts of the image, and places relative to other things
    "front side back background foreground top bottom middle center centre edge end corner distance direction left"
    " right inside outside indoor indoors outdoor outdoors onstage half part area place spot location position space"
    " way midair air midst line"
    # the image itself
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
"""Nouns, in the singular, for nothing that is visible in an image as an object."""

COMPOUNDED = _set("lot set piece area control line")
"""Those of `UNSEEN` that are objects after another noun: "parking lot", "swing set"."""

COLOURS = _set("black white red blue green yellow pink purple brown grey gray tan beige maroon teal gold silver neon")
"""Never nouns: "a girl in pink". Orange is a noun only where it must be the fruit."""

ACTORS = _set(
    "man woman boy girl child kid person baby toddler guy lady mom dad mother father dog puppy crowd team player rider"
    " biker cyclist climber skater skateboarder skier snowboarder surfer runner racer"
)
"""Subjects that captions begin with: a word after these that may be a verb is one ("man rides", "dog paws at")."""

MODIFIERS = _set(
    "bathing bowling boxing climbing cutting dining diving fishing frying hiking ironing living parking racing rocking"
    " rowing sewing shopping skating skiing swimming washing wedding"
)
"""-ing forms that make a compound with the next noun ("swimming pool"); others are verbs ("running dog")."""

GERUNDS = _set(
    "bedding building carving clothing coating covering crossing drawing dressing filling flooring frosting icing"
    " landing lighting netting opening painting railing scaffolding siding stuffing topping tubing wedding"
)
"""-ing forms that are nouns themselves."""

NAMES = frozenset(
    {"hot dog", "teddy bear", "polar bear", "french fry", "high chair", "remote control", "train track", "tote bag"}
)
"""Compounds with a part that the tagger does not recognise as a noun."""

PLURALS = re.compile(
    r".*(?:pants|shorts|glasses|clothes|trousers|trunks|headphones)|woods|belongings|rapids|sports|graffiti|media|dice"
)
"""Words that are not made singular, although the lexicon has a singular form: "shorts"."""

SINGULARS = {"people": "person", "leaves": "leaf"}

# --- Words ------------------------------------------------------------------------------------------------------

WORD = re.compile(r"[a-z]+n't|'[a-z]+|[a-z]+(?:-[a-z]+)*|\d+|[!-/:-@[-`{-~]")
NOMINAL = ("NN", "NNS")
VERBAL = ("VB", "VBP", "VBZ", "VBN", "VBD")


def nouns(caption: str) -> tuple[str, ...]:
    """The distinct common nouns of an English caption, in order of appearance.

    Up to three adjacent nouns make a compound ("tennis ball", "hockey stick") if all but the last are singular and do
    not name a person; -ing forms are part of it only if they are in `MODIFIERS` ("swimming pool"). The nouns are in
    lower case and, if the lexicon has it, in the singular; words in `UNSEEN` and `COLOURS` are left out.

    Args:
        caption: any text. If less than half of its words are in the lexicons, it is not English and has no nouns.

    Returns:
        The nouns, each of one to three words; may be empty. Equal captions have equal nouns.

    Raises:
        UserError: the packages of `pacl[nouns]` are missing.
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
    """Penn Treebank tags of the words of a caption, with nouns corrected according to the words around them."""
    tags = [tag for _, tag in _tagger().tag(" ".join(words), tokenize=False)]
    determiner = ""  # of the noun phrase of the word
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
                # Compounds do not begin with a plural: "dogs race".
                if before == "NNS" and _singular(previous) != previous:
                    tags[i] = "VBP"
            # No plural follows "a", and no determiner follows a noun: "a dog paws at", "the dog bites a".
            elif determiner in ("a", "an", "another", "one", "this", "each") or previous in ACTORS or after == "DT":
                tags[i] = "VBZ"
    return tags


def _in_noun_phrase(tag: str, previous: str, before: str, after: str, determiner: str) -> bool:
    """Whether a word that is tagged as a verb must be a noun, because it is in a noun phrase."""
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
    """The nouns of adjacent noun words: one compound, or several if there are more than three words."""
    *modifiers, head = run
    head = _singular(head)
    if head in UNSEEN and not (modifiers and head in COMPOUNDED):
        return _name(modifiers) if modifiers else []
    if len(run) > 3:
        return [noun for word in run for noun in _name([word])]
    return [" ".join([*modifiers, head])]


def _modifies(word: str) -> bool:
    """Whether a noun can be the first part of a compound."""
    return word not in UNSEEN and (word not in ACTORS or word in ("baby", "dog")) and _singular(word) == word


# --- Data sets --------------------------------------------------------------------------------------------------


def tag_all(captions: Iterable[str], cache: Path | None = None, tracked: Tracked = untracked) -> list[tuple[str, ...]]:
    """The nouns of every caption of a data set; equal captions are tagged once.

    Args:
        captions: any number of texts, in any order.
        cache: folder for the result. The file name has a digest of the distinct captions, the versions of the packages
            and `RULES`; a damaged file is replaced.
        tracked: wraps the captions that are tagged.

    Returns:
        The result of `nouns` for each caption.

    Raises:
        UserError: the packages of `pacl[nouns]` are missing, or the cache cannot be written.
    """
    captions = list(captions)
    distinct = sorted(set(captions))
    found: list[tuple[str, ...]] | None
    if cache is None:
        found = list(map(nouns, tracked(distinct, "nouns")))
    else:
        made_by = f"{_packages()}, rules {RULES}"
        digest = hashlib.sha256(json.dumps([made_by, distinct]).encode()).hexdigest()
        path = Path(cache) / f"nouns-{digest[:16]}.json"
        found = _read(path, digest, len(distinct))
        if found is None:
            make_folder(cache, "cache")  # so that errors come before the work
            found = list(map(nouns, tracked(distinct, "nouns")))
            content = json.dumps({"made_by": made_by, "digest": digest, "nouns": found})
            with atomic_write(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
    of = dict(zip(distinct, found, strict=True))
    return [of[caption] for caption in captions]


def _read(path: Path, digest: str, count: int) -> list[tuple[str, ...]] | None:
    """The nouns in a cache file, or None if it is missing, damaged or of other captions."""
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
    return UserError(f'nouns of captions: the package {package} is missing; pip install "pacl[nouns]"')


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(str(error.name).partition(".")[0]) from None


def _packages() -> str:
    """The packages with their versions, which the nouns depend on."""
    try:
        return ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    except PackageNotFoundError as error:
        raise _missing(str(error.name)) from None


@cache
def _tagger() -> Any:
    return _import("textblob.taggers").PatternTagger()


@lru_cache(1 << 16)
def _kinds(word: str) -> dict[str, tuple[str, ...]]:
    """Possible parts of speech and lemmas: "dogs" -> {"NOUN": ("dog",), "VERB": ("dog",)}; empty for unknown words."""
    return _import("lemminflect").getAllLemmas(word)


@lru_cache(1 << 16)
def _singular(noun: str) -> str:
    if PLURALS.fullmatch(noun):
        return noun
    if noun in SINGULARS:
        return SINGULARS[noun]
    lemmas = _kinds(noun).get("NOUN", ())
    if lemmas:
        return min(lemmas, key=len)  # both "jumps" and "jump" are lemmas
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is", "os")) else noun


@lru_cache(1 << 16)
def _known(word: str) -> bool:
    return bool(_kinds(word)) or word in _import("textblob.en").lexicon


@lru_cache(1 << 16)
def _capitalised(word: str) -> str:
    """The tag of the capitalised word, for words that are in the lexicon only with a capital: "asian"."""
    lexicon = _import("textblob.en").lexicon
    return "" if word in lexicon else lexicon.get(word.capitalize(), "")
