"""Images that are decoded ahead: in order, and no more than memory is meant for."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pacl import image_batches
from pacl.errors import UserError
from pacl.image_batches import read_batches


@dataclass(frozen=True)
class Item:
    number: int

    @property
    def path(self) -> Path:
        return Path(str(self.number))


class Decoder:
    """Images of a size, and how many have been decoded."""

    def __init__(self, side: int) -> None:
        self.side, self.count, self.turn = side, 0, threading.Lock()

    def __call__(self, item: Item) -> np.ndarray | UserError:
        with self.turn:
            self.count += 1
        return UserError("broken") if item.number == 3 else np.zeros((self.side, self.side, 3), np.uint8)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("side", [1, 30])
def test_every_image_is_in_a_batch_once_and_in_order(monkeypatch: pytest.MonkeyPatch, side: int, workers: int) -> None:
    monkeypatch.setattr(image_batches, "BATCH_PIXELS", 1000)
    batches = list(read_batches(map(Item, range(20)), 4, Decoder(side), workers))
    assert [item.number for batch in batches for item, _ in batch] == list(range(20))
    assert max(map(len, batches)) == (4 if side == 1 else 2)  # (one of these cannot be read)


def test_large_images_are_not_decoded_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_batches, "BATCH_PIXELS", 2000)
    decode, handed = Decoder(30), 0  # two images a batch
    for batch in read_batches(map(Item, range(100, 160)), 32, decode, 1):
        handed += len(batch)
        assert decode.count <= handed + 2


def test_who_stops_waits_for_no_image() -> None:
    go_on, begun, done = threading.Event(), threading.Event(), threading.Event()

    def decode(item: Item) -> np.ndarray:
        if item.number:
            begun.set()
            go_on.wait(20)
            done.set()
        return np.zeros((2, 2, 3), np.uint8)

    batches = read_batches(map(Item, range(9)), 1, decode, 1)
    next(batches)
    assert begun.wait(60)
    batches.close()  # type: ignore[attr-defined]
    assert not done.is_set()
    go_on.set()
