"""A tokenizer for text towers from which all token embeddings were removed that do not occur in their training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class CompactTokenizer:
    """open_clip's byte-pair tokenizer with a reduced vocabulary and renumbered ids.

    Ids keep their order, so that the end-of-text token has the highest id, as open_clip expects. Unknown tokens have id
    0, that of the padding.

    Attributes:
        token_ids: the known ids of open_clip's vocabulary, sorted; the first is 0.
        context_length: number of tokens that texts are padded or truncated to, start and end included.
    """

    def __init__(self, token_ids: Sequence[int], context_length: int) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._full = SimpleTokenizer(context_length=context_length)
        ids = list(token_ids)
        if ids != sorted(set(ids)) or ids[:1] != [0] or ids[-2:] != self._full.all_special_ids:
            raise ValueError("token_ids must be sorted and distinct, from 0 to the ids of start and end of text")
        self.token_ids = tuple(ids)
        self.context_length = context_length
        self._compact = torch.zeros(self._full.vocab_size, dtype=torch.long)
        self._compact[ids] = torch.arange(len(ids))

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return len(self.token_ids)

    def encode(self, text: str) -> list[int]:
        """Compact ids of a text, without start and end; unknown tokens are 0."""
        return self._compact[self._full.encode(text)].tolist()

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Texts -> compact ids [T, context_length], int64; truncated texts keep the end-of-text token."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        return self._compact[self._full(texts)]


def token_ids_of(words: Iterable[str] | None) -> list[int]:
    """The sorted ids of open_clip's vocabulary that encode the given words, with padding, start and end.

    ``None`` means the whole vocabulary.
    """
    from open_clip.tokenizer import SimpleTokenizer

    full = SimpleTokenizer()
    if words is None:
        return list(range(full.vocab_size))
    return sorted({0, *full.all_special_ids}.union(*(full.encode(word) for word in words)))
