"""The nouns of captions, for prompts that stand beside the caption ("a photo of the large {}.").

    caption -> words -> part-of-speech tags (textblob) -> corrected tags -> runs of nouns -> singular nouns

The tagger is textblob's `PatternTagger`: Brill's rules and lexicon (Brill, "A simple rule-based part of speech tagger",
1992), carried by the package as plain text, so nothing is downloaded. It was made for newspapers; captions are written
in the present tense, where "jumps" and "rides" look like plurals. A second lexicon (lemminflect: which words can be a
noun, a verb, and of what) and grammar that holds in any English sentence settle those.

Both packages are the extra `pacl[nouns]`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pacl.errors import UserError
from pacl.files import written_whole

RULES = 1
"""Version of this module's rules and lists. Raise it with every change to them: caches made before are then ignored."""

# --- Lists ------------------------------------------------------------------------------------------------------

UNSEEN = frozenset(
    # parts of the picture and places relative to other things
    "front side back background foreground top bottom middle center centre edge end corner distance direction left"
    " right inside outside indoors outdoors half part area place spot location position space way midair air"
    # the picture itself
    " picture photo photograph image view shot scene closeup close-up camera-shot illustration stock vector"
    # amounts and collections: the things counted are nouns of their own
    " group couple pair lot number bunch set series row variety collection piece kind sort type style variation dozen"
    " crowd-of amount others other each one some something someone anything nothing everything everyone thing"
    # time and events in time
    " time day moment morning afternoon evening today turn while year minute second start"
    # doings and states
    " use activity action trick jump ride run walk smile look help fun game-time motion attempt"
    " front-of shape size color colour shade".split()
)
"""Words that name no thing one could point at in a picture."""

COLOURS = frozenset("black white red blue green yellow pink purple brown grey gray tan beige maroon teal".split())

KEPT_PLURALS = re.compile(r".*(?:pants|shorts|glasses|clothes|jeans|tights|trousers|pajamas|scissors|goggles)$|woods")
SINGULARS = {"people": "person", "leaves": "leaf", "dice": "dice", "men": "man", "women": "woman"}
"""Plurals that the lexicon leaves as they are, or for which it names another word first."""

