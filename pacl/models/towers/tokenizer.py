"""A tokenizer for text towers that hold only the token rows they were trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class CompactTokenizer:
    """open_clip's byte-pair tokenizer, its ids renumbered to the few that a small text tower knows.

    Ids keep their order, so that the end of text stays the highest one, where open_clip looks for it. Ids that are
    not among the known ones become 0, the row of the padding.

    Attributes:
        token_ids: the known ids of open_clip's vocabulary, sorted; the first is 0.
        context_length: tokens a text is padded or cut to, start and end included.
    """

    def __init__(self, token_ids: Sequence[int], context_length: int) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._full = SimpleTokenizer(context_length=context_length)
        ids = list(token_ids)
        if ids != sorted(set(ids)) or ids[:1] != [0] or ids[-2:] != self._full.all_special_ids:
            raise ValueError("token_ids are sorted and distinct, begin with 0 and end with the start and end of text")
        self.token_ids = tuple(ids)
        self.context_length = context_length
        self._compact = torch.zeros(self._full.vocab_size, dtype=torch.long)
        self._compact[ids] = torch.arange(len(ids))

    @property
    def vocab_size(self) -> int:
        """Rows of the token table that the ids point into."""
        return len(self.token_ids)

    def encode(self, text: str) -> list[int]:
        """Compact ids of a text, without start and end; unknown tokens are 0."""
        return self._compact[self._full.encode(text)].tolist()

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Texts -> compact ids [T, context_length], int64; longer texts are cut, the end of text kept."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        return self._compact[self._full(texts)]


def token_ids_of(words: Iterable[str] | None) -> list[int]:
    """The sorted ids of open_clip's vocabulary that spell the given words and signs, with padding, start and end.

    None gives the ids of the whole vocabulary.
    """
    from open_clip.tokenizer import SimpleTokenizer

    full = SimpleTokenizer()
    if words is None:
        return list(range(full.vocab_size))
    return sorted({0, *full.all_special_ids}.union(*(full.encode(word) for word in words)))
