import pickle
import tracemalloc
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from pacl.data.pairs import FilePairs, PackedStrings, Subset, hold_out


def some_pairs(numbers, root="root"):
    return FilePairs(Path(root), {f"d{n % 3}/{n}.jpg": [f"{n}.{c}" for c in range(n % 4)] for n in numbers})


def test_nouns_belong_to_their_captions():
    pairs = some_pairs(range(9))
    assert pairs.descriptions(3) == [("3.0", ()), ("3.1", ()), ("3.2", ())]
    pairs.set_nouns([(f"n{c}", "two words") if c.endswith("1") else () for c in pairs.captions])
    for i in range(9):
        expected = [(f"{i}.{c}", (f"n{i}.1", "two words") if c == 1 else ()) for c in range(i % 4)]
        assert pairs.descriptions(i) == expected


def test_known_nouns_and_none_at_all():
    own = {"a.jpg": ["x", "y"], "b.jpg": [], "c.jpg": ["y"]}
    pairs = FilePairs(Path(), own, {"x": ["n"], "y": ["m", "k"]})
    assert [pairs.descriptions(i) for i in range(3)] == [[("x", ("n",)), ("y", ("m", "k"))], [], [("y", ("m", "k"))]]
    silent = FilePairs(Path(), {"a.jpg": [], "b.jpg": []}, {})
    assert [silent.descriptions(i) for i in range(2)] == [[], []]


def test_a_subset_has_some_images_in_its_order(tmp_path):
    for value, name in enumerate(("a.png", "b.png", "c.png"), 1):
        Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(tmp_path / name)
    pairs = FilePairs(tmp_path, {"a.png": ["A"], "b.png": ["B"], "c.png": ["C"]})
    part = Subset(Subset(pairs, [2, 0]), np.array([1, 0]))
    assert len(part) == 2
    assert [part.name(i) for i in range(2)] == [str(tmp_path / "a.png"), str(tmp_path / "c.png")]
    assert [part.descriptions(i)[0][0] for i in range(2)] == ["A", "C"]
    assert [int(part.image(i, short_side=4).max()) for i in range(2)] == [1, 3]
    assert len(Subset(pairs, [])) == 0


def names_of(part):
    return [Path(part.name(i)).relative_to(part.name(i).split("/")[0]) for i in range(len(part))]


def test_hold_out_depends_on_the_names_alone():
    numbers = list(range(100))
    kept, held = map(names_of, hold_out(some_pairs(numbers), 17))
    assert (len(kept), len(held)) == (83, 17)
    assert sorted(kept + held) == sorted(names_of(some_pairs(numbers)))
    Random(0).shuffle(numbers)
    moved = FilePairs(Path("moved"), {f"{n}.jpg": ["another caption"] for n in numbers})
    assert {path.name for path in names_of(hold_out(moved, 17)[1])} == {path.name for path in held}
    assert set(names_of(hold_out(some_pairs(numbers, "elsewhere"), 17)[1])) == set(held)
    assert set(names_of(hold_out(some_pairs(numbers), 30)[1])) > set(held)
    assert 3 < sum(int(path.stem) < 50 for path in held) < 14  # from everywhere


@pytest.mark.parametrize("count", [0, 5])
def test_hold_out_none_or_all(count):
    kept, held = hold_out(some_pairs(range(5)), count)
    assert (len(kept), len(held)) == (5 - count, count)


def test_hold_out_of_equal_names_in_several_folders():
    paths = [f"class{k}/{n}.jpg" for k in range(5) for n in range(4)]
    chosen = []
    for seed in range(3):
        Random(seed).shuffle(paths)
        chosen.append(set(names_of(hold_out(FilePairs(Path("root"), {path: ["x"] for path in paths}), 7)[1])))
    assert chosen[0] == chosen[1] == chosen[2]
    assert len(chosen[0]) == 7


def test_images_of_equal_names_are_held_out_from_everywhere():
    """Not all the fronts of the first folders; wherever the folder lies, and however much of its path is the root's."""
    paths = [f"all/item{k:03}/{view}.jpg" for k in range(100) for view in ("front", "side", "top")]
    held = names_of(hold_out(FilePairs(Path("root"), {path: ["x"] for path in [*paths, "all/one.jpg"]}), 30)[1])
    views = Counter(path.stem for path in held)
    assert min(views["front"], views["side"], views["top"]) > 3
    assert 5 < sum(path.parent.name < "item050" for path in held) < 25
    elsewhere = FilePairs(Path("other/all"), {path.removeprefix("all/"): ["x"] for path in [*paths, "all/one.jpg"]})
    assert {Path("all") / path.relative_to("all") for path in names_of(hold_out(elsewhere, 30)[1])} == set(held)
    for one in ("a.jpg", "/absolute/a.jpg"):  # nothing in common
        assert len(hold_out(FilePairs(Path(), {"x/a.jpg": [], one: []}), 1)[1]) == 1


# --- Strings -----------------------------------------------------------------------------------------------------

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
