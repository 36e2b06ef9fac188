"""What a user should know about prompts that a model accepts: words it does not know, prompts it cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pacl.class_files import say_files, say_lists
from pacl.errors import SameEmbedding, SimilarLabels, UnfamiliarWords, UnknownWords
from pacl.models.config import SHIPPED
from pacl.models.vocabulary import Vocabulary, say_alike, say_in_pieces, say_same, say_unfamiliar, say_unknown
from pacl.printing import quoted
from pacl.prompts import fill, split_words, unknown_words
from pacl.segmentation.query import EncodedQuery, alike_prompts, equal_prompts

if TYPE_CHECKING:
    from pacl.models.backbone import Backbone


def doubts(
    clip: Backbone,
    vocabulary: Vocabulary,
    templates: Sequence[str],
    prompts: Sequence[str],
    encoded: EncodedQuery,
    *,
    names_of_labels: bool = True,
) -> list[tuple[type[Warning], str]]:
    """The warnings about prompts, each with its message of one line.

    Args:
        clip: the model's backbone.
        vocabulary: the words that the head was trained on.
        templates: of the prompts; their words count as well.
        prompts: those of the user, not those that the model added.
        encoded: the query that they are part of.
        names_of_labels: whether prompts are names; sentences such as captions may have commas.
    """
    found: list[tuple[type[Warning], str]] = []
    if clip.vocabulary is not None:
        wordless = [prompt for prompt in prompts if not split_words(prompt)]
        around = [text for template in templates if (text := fill(template, "").strip(" .,"))]
        if unknown := list(dict.fromkeys([*unknown_words([*prompts, *around], clip.vocabulary), *wordless])):
            found.append((UnknownWords, say_unknown(unknown, clip.vocabulary)))
    if unfamiliar := vocabulary.unfamiliar(prompts):
        found.append((UnfamiliarWords, say_unfamiliar(unfamiliar)))
    far = {each.prompt for each in unfamiliar}
    if in_pieces := vocabulary.in_pieces([prompt for prompt in prompts if prompt not in far]):
        found.append((UnfamiliarWords, say_in_pieces(in_pieces, vocabulary.meant(in_pieces))))
    if names_of_labels and (lists := say_lists(prompts)):
        found.append((UnfamiliarWords, lists))
    if names_of_labels and (files := say_files(prompts)):
        found.append((UnfamiliarWords, files))
    if models := [prompt for prompt in prompts if prompt in SHIPPED]:
        found.append((UnfamiliarWords, f"prompt {quoted(models[0])} is the name of a model, but is taken as words"))
    if same := equal_prompts(encoded, prompts):
        found.append((SameEmbedding, say_same(same)))
    if names_of_labels:
        alike = alike_prompts(encoded.query, prompts)
        if alike := [group for group in alike if not any(set(group) <= set(other) for other in same)]:
            found.append((SimilarLabels, say_alike(alike)))
    return found
