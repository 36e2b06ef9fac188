import pickle
import tracemalloc

import pytest

from pacl.data.pairs import PackedStrings

LISTS = [
    [],
    [""],
    ["", "", ""],
    ["one", "", "two words\tand\na line"],
    ["\N{DOG FACE} und Größe", "日本語", "e\u0301", "\x00"],
    ["caf\udce9.jpg", "\ud83d", "\udc00\ud800"],  # a file name that is not UTF-8, and what JSON may hold
]


@pytest.mark.parametrize("strings", LISTS)
def test_strings_come_back(strings):
    kept = PackedStrings(iter(strings))
    assert list(kept) == strings
    assert len(kept) == len(strings)
    assert list(pickle.loads(pickle.dumps(kept))) == strings


def test_indices_are_those_of_a_list():
    kept = PackedStrings(["a", "bc", ""])
    assert [kept[i] for i in (-3, -2, -1)] == ["a", "bc", ""]
    for index in (3, -4):
        with pytest.raises(IndexError):
            kept[index]
    with pytest.raises(IndexError):
        PackedStrings([])[0]


def test_a_string_costs_its_bytes_and_eight():
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = PackedStrings(f"caption number {i:06}" for i in range(10_000))  # 21 bytes each
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept[9_999] == "caption number 009999"
    assert (after - before) / len(kept) < 21 + 8 + 1
