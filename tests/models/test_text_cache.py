import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from pacl.models.text_cache import TextCache


class Encoder:
    """Embeds a text as its length and its first letter; remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> Tensor:
        self.calls.append(list(texts))
        return torch.tensor([[len(text), ord(text[0])] for text in texts], dtype=torch.float32)


def test_every_text_gets_its_own_embedding_in_the_order_asked() -> None:
    cache = TextCache(Encoder(), batch=2)
    texts = ["dog", "a cat", "dog", "sky", "grass", "dog"]
    assert torch.equal(cache(texts), Encoder()(texts))
    assert torch.equal(cache(["grass", "dog"]), Encoder()(["grass", "dog"]))


def test_a_text_is_computed_once() -> None:
    encoder = Encoder()
    cache = TextCache(encoder, batch=4)
    cache(["dog", "cat", "dog"])
    cache(["cat", "sky"])
    assert [sorted(set(call)) for call in encoder.calls] == [["cat", "dog"], ["sky"]]


def test_batches_always_have_one_size() -> None:
    encoder = Encoder()
    TextCache(encoder, batch=3)([str(i) for i in range(1, 8)])
    assert [len(call) for call in encoder.calls] == [3, 3, 3]


def test_batches_are_padded_to_a_multiple() -> None:
    encoder = Encoder()
    TextCache(encoder, batch=4, multiple=2)([str(i) for i in range(1, 8)])
    TextCache(encoder, batch=4, multiple=2)(["1"])
    assert [len(call) for call in encoder.calls] == [4, 4, 2]


def test_a_full_cache_starts_anew_and_stays_right() -> None:
    encoder = Encoder()
    cache = TextCache(encoder, batch=2, limit=3 * 2 * 4)  # three texts of two float32
    for texts in (["dog", "cat"], ["sky"], ["sea", "dog"], ["cat", "a", "bb", "ccc"], ["dog"]):
        assert torch.equal(cache(texts), Encoder()(texts))
    assert sum(call.count("dog") for call in encoder.calls) > 1
    assert len(cache._rows) <= 4


def test_only_texts_of_one_kind_are_computed_together():
    batches = []

    def encode(texts: list[str]) -> torch.Tensor:
        batches.append(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    cache = TextCache(encode, batch=2, kind=len)
    assert cache(["a", "bbb", "c", "d", "eee", "a"]).flatten().tolist() == [1, 3, 1, 1, 3, 1]
    assert batches == [["a", "c"], ["d", "d"], ["bbb", "eee"]]
    assert cache(["eee", "d"]).flatten().tolist() == [3, 1]
    assert len(batches) == 3


def test_threads_that_share_a_cache_get_the_embeddings_of_their_texts() -> None:
    encoder, running = Encoder(), []

    def encode(texts: list[str]) -> Tensor:
        running.append(1)
        time.sleep(0.001)  # lets other threads in
        assert len(running) == 1
        running.pop()
        return encoder(texts)

    cache = TextCache(encode, batch=2)
    texts = [chr(ord("a") + i) * (i + j) for i in range(8) for j in range(1, 9)]
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(lambda k: cache([*texts[k::8], "x"]), range(8)))
    for k, part in enumerate(parts):
        assert torch.equal(part, Encoder()([*texts[k::8], "x"]))
    assert torch.equal(cache(texts), Encoder()(texts))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_cache_is_copied_and_pickled_with_its_texts(copied) -> None:
    cache = TextCache(Encoder(), batch=2)
    cache(["dog", "cat"])
    other = copied(cache)
    other(["sky"])
    assert torch.equal(other(["cat", "sky"]), Encoder()(["cat", "sky"]))
    assert [sorted(set(call)) for call in other.encode.calls] == [["cat", "dog"], ["sky"]]
    assert torch.equal(cache(["dog", "sea"]), Encoder()(["dog", "sea"]))
