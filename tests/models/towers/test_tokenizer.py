"""Ids of a small token table."""

import pytest
import torch

from pacl.models.towers.tokenizer import CompactTokenizer, token_ids_of
from pacl.scenes.captions import PUNCTUATION, VOCABULARY


def test_known_words_keep_their_order_and_unknown_ones_become_padding() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    ids = token_ids_of(["a", "red", "star"])
    assert ids == sorted(ids)
    assert ids[0] == 0
    compact, full = CompactTokenizer(ids, 8), SimpleTokenizer(context_length=8)
    assert compact.vocab_size == len(ids) == 6
    tokens = compact("a red star")
    assert tokens.shape == (1, 8)
    assert torch.equal(torch.tensor(ids)[tokens], full(["a red star"]))
    assert compact(["a walrus star"])[0, 2] == 0
    assert tokens.argmax() == 4  # the end of text, where CLIP reads the text's vector
    assert compact("star " * 20)[0, -1] == compact.vocab_size - 1


def test_every_word_of_the_scenes_is_known() -> None:
    ids = token_ids_of((*VOCABULARY, *PUNCTUATION))
    tokenizer = CompactTokenizer(ids, 32)
    for word in (*VOCABULARY, *PUNCTUATION):
        assert tokenizer.encode(word), word
        assert 0 not in tokenizer.encode(word), word


def test_without_a_list_of_words_the_whole_table() -> None:
    assert token_ids_of(None) == list(range(49408))


def test_a_list_without_start_and_end_is_refused() -> None:
    with pytest.raises(ValueError, match="token_ids"):
        CompactTokenizer([0, 5, 9], 8)
