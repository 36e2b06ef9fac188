"""Class names are facts: their number, order and spelling decide what every figure means."""

from __future__ import annotations

import hashlib

import pytest

from eval.segmentation.benchmark import LISTS, NAMES
from eval.segmentation.label_maps import CITYSCAPES_IDS, CONTEXT_IDS
from eval.segmentation.registry import BENCHMARKS
from pacl.prompts import parse_prompt, read_classes
from tests.paths import SHARED

OBJECTS = SHARED / "data/ADEChallengeData2016/objectInfo150.txt"
SCLIP = sorted(BENCHMARKS.keys() - {"camvid"})
BACKGROUND_WORDS = (
    "sky;wall;tree;wood;grass;road;sea;river;mountain;sands;desk;bed;building;cloud;lamp;door;window;wardrobe;ceiling;"
    "shelf;curtain;stair;floor;hill;rail;fence"
)


def labels(names: str, benchmark: str) -> list[str]:
    return [label.name for label in read_classes(NAMES / names / f"{benchmark}.txt", shared_prompts=True)]


def prompts(names: str, benchmark: str) -> list[tuple[str, ...]]:
    return [label.prompts for label in read_classes(NAMES / names / f"{benchmark}.txt", shared_prompts=True)]


def test_every_list_has_every_class_and_names_its_source():
    files = [path for name in LISTS for path in (NAMES / name).glob("*.txt")]
    assert len(files) == 9 + 8 + 3 + 3 + 1
    for path in files:
        assert len(labels(path.parent.name, path.stem)) == BENCHMARKS[path.stem].classes, path
        assert path.read_text().startswith("# "), path


@pytest.mark.parametrize("benchmark", SCLIP)
def test_lists_of_a_benchmark_agree_about_its_classes(benchmark):
    for names in BENCHMARKS[benchmark].lists():
        if names != "everyday":
            assert labels(names, benchmark) == labels("plain", benchmark), names


def test_plain_names_are_their_own_labels():
    for benchmark in BENCHMARKS:
        assert prompts("plain", benchmark) == [(name,) for name in labels("plain", benchmark)]


def test_background_is_class_0_where_there_is_one():
    assert {b.name for b in BENCHMARKS.values() if b.background} == {"voc21", "context60", "coco_object"}
    for benchmark in BENCHMARKS.values():
        assert (labels("plain", benchmark.name)[0] == "background") == benchmark.background
    assert labels("plain", "voc21")[1:] == labels("plain", "voc20")
    assert labels("plain", "context60")[1:] == labels("plain", "context59")
    assert labels("plain", "coco_object")[1:] == labels("plain", "coco_stuff")[:80]


@pytest.mark.parametrize(
    ("benchmark", "number", "name"),
    [
        ("voc20", 0, "aeroplane"),
        ("voc20", 14, "person"),
        ("voc20", 19, "tvmonitor"),
        ("context59", 36, "person"),
        ("context59", 39, "pottedplant"),
        ("coco_stuff", 9, "traffic light"),
        ("coco_stuff", 80, "banner"),
        ("coco_stuff", 170, "wood"),
        ("coco_object", 80, "toothbrush"),
        ("ade150", 12, "person"),
        ("ade150", 149, "flag"),
        ("cityscapes", 11, "person"),
        ("camvid", 6, "sign symbol"),
    ],
)
def test_classes_by_number(benchmark, number, name):
    assert labels("plain", benchmark)[number] == name


def test_the_orders_that_label_maps_stand_on():
    assert labels("plain", "cityscapes") == list(CITYSCAPES_IDS)
    assert labels("plain", "context59") == list(CONTEXT_IDS) == sorted(CONTEXT_IDS)


def test_synonyms_as_sclip_published_them():
    voc = dict(zip(labels("sclip", "voc21"), prompts("sclip", "voc21"), strict=True))
    assert voc["background"] == parse_prompt(BACKGROUND_WORDS).prompts
    assert voc["boat"] == ("ship",)
    assert voc["diningtable"] == ("table",)
    clothes = ("shirt", "jeans", "dress", "sweater", "skirt", "jacket")
    assert voc["person"] == ("person", *(f"person in {worn}" for worn in clothes))
    assert voc["tvmonitor"] == ("television monitor", "tv monitor", "monitor", "television", "screen")
    objects = dict(zip(labels("sclip", "coco_object"), prompts("sclip", "coco_object"), strict=True))
    assert objects["background"] == parse_prompt(BACKGROUND_WORDS).prompts
    assert objects["person"] == (*voc["person"], "body")
    assert sum(map(len, prompts("sclip", "voc20"))) == 20 + 6 + 4
    for name in ("context59", "coco_stuff", "ade150", "cityscapes"):
        assert all(len(words) == 1 for words in prompts("sclip", name))
    assert prompts("sclip", "context60")[0] == ("background",)


# The first half of the SHA-256 of the published lists: synonyms joined by "; ", a class a line.
PUBLISHED = {
    ("sclip", "ade150"): "e53ded02c488bdb903ef000a2d207e4a",
    ("sclip", "cityscapes"): "6f6782fc1bf92bfd9f5562192e92045e",
    ("sclip", "coco_object"): "cfcc0eab9854dab6e5b8ec595beafa5c",
    ("sclip", "coco_stuff"): "fb98709b9ab1baff4fd930bac4a77772",
    ("sclip", "context59"): "cd808465f06a16169edc25580073f0ed",
    ("sclip", "context60"): "e29ff1a0eaea71eb3e090f0ff6abdbcc",
    ("sclip", "voc20"): "07866c1c093973bf0552c228cf6998a8",
    ("sclip", "voc21"): "afe97de53ac9aaa4200ba5610f3d7781",
    ("clearclip", "coco_object"): "1f17b53017e442257cad2025ab981dde",
    ("clearclip", "voc20"): "6b9a85ffb907e34ac920d704a520b45e",
    ("clearclip", "voc21"): "265d9ede93be451d724981c5ffde13a8",
    ("proxyclip", "coco_object"): "87b6d3e1d3adf5202f4fe5a2a939cfc6",
    ("proxyclip", "voc20"): "6b9a85ffb907e34ac920d704a520b45e",
    ("proxyclip", "voc21"): "6a194e9134d44459bf8b86ba89a9cf06",
}


@pytest.mark.parametrize(("names", "benchmark"), PUBLISHED)
def test_the_published_lists_to_the_letter(names, benchmark):
    text = "\n".join("; ".join(words) for words in prompts(names, benchmark))
    assert hashlib.sha256(text.encode()).hexdigest()[:32] == PUBLISHED[names, benchmark]


def test_what_the_lists_of_one_family_differ_in():
    """ClearCLIP and ProxyCLIP share SCLIP's everyday spellings, not its synonyms; nor all of its background words."""
    for names in ("clearclip", "proxyclip"):
        for benchmark in ("voc20", "voc21", "coco_object"):
            own = dict(zip(labels(names, benchmark), prompts(names, benchmark), strict=True))
            assert own["person"] == ("person",)
            assert all(len(words) == 1 for label, words in own.items() if label != "background")
        assert prompts(names, "voc21")[1:] == prompts(names, "voc20")
        assert prompts(names, "voc20")[3] == ("ship",)
    assert prompts("clearclip", "voc21")[0] == prompts("clearclip", "coco_object")[0] == ("background",)
    assert prompts("proxyclip", "voc21")[0] == parse_prompt(BACKGROUND_WORDS).prompts
    fewer = (*parse_prompt(BACKGROUND_WORDS).prompts[:14], "floor", "hill", "rail")
    assert prompts("proxyclip", "coco_object")[0] == fewer


@pytest.mark.skipif(not OBJECTS.is_file(), reason=f"no {OBJECTS}")
def test_ade20k_names_are_the_first_of_every_line():
    lines = OBJECTS.read_text().splitlines()[1:]
    assert labels("plain", "ade150") == [line.split("\t")[4].split(",")[0].strip() for line in lines]
