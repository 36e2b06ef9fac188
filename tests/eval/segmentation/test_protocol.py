"""Protocols: the published settings, a file of one's own, and what is refused."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import pytest

from eval.segmentation.protocol import OWN_PROTOCOLS, PROTOCOLS, Protocol, read_protocol
from pacl.errors import ArgumentError, UserError
from pacl.prompts import get_templates
from pacl.segmentation.refine import refine
from pacl.segmentation.settings import DILATIONS, SegmenterSettings
from tests.paths import ROOT

BACKGROUND = {"voc21": True, "context60": True, "coco_object": True}
BENCHMARKS = ("voc20", "voc21", "context59", "context60", "coco_stuff", "coco_object", "ade150", "cityscapes")

# Short side / window / step of each benchmark, as in the methods' configuration files; None: the whole picture.
SIZES = {
    "sclip": {
        **dict.fromkeys(BENCHMARKS, (336, 224, 112)),
        "coco_stuff": (448, 224, 112),
        "cityscapes": (560, 224, 112),
    },
    "naclip": {
        **dict.fromkeys(BENCHMARKS, (336, 224, 112)),
        "voc20": (336, None, None),
        "voc21": (336, None, None),
        "cityscapes": (560, 224, 112),
    },
    "clearclip": {**dict.fromkeys(BENCHMARKS, (448, 448, 224)), "cityscapes": (448, 224, 224)},
    "proxyclip": {
        **dict.fromkeys(BENCHMARKS, (336, 336, 112)),
        "ade150": (448, 336, 112),
        "cityscapes": (448, 224, 112),
    },
    "tcl": dict.fromkeys(BENCHMARKS, (448, 448, 224)),
    "pacl": dict.fromkeys(BENCHMARKS, (None, None, None)),
}
# Logit scale (None: the model's own) and background rule of VOC21, Context60, COCO-Object; scale of all others.
BACKGROUNDS = {
    "sclip": ((65, "threshold:0.1"), (50, "threshold:0.1"), (50, "threshold:0.1"), 40),
    "naclip": ((40, "threshold:0.1"), (40, "threshold:0.1"), (40, "threshold:0.1"), 40),
    "clearclip": ((50, "threshold:0.5"), (50, "threshold:0.15"), (50, "threshold:0.4"), 50),
    "proxyclip": ((40, "threshold:0.2"), (40, "threshold:0.15"), (40, "threshold:0.25"), 40),
    "tcl": ((None, "threshold:0.4"), (None, "threshold:0.4"), (None, "threshold:0.4"), None),
    "pacl": ((None, "entropy:1.5"), (None, "entropy:1.5"), (None, "entropy:1.5"), None),
}


def read(name: str, benchmark: str, **changes) -> Protocol:
    return read_protocol(name, benchmark, background=BACKGROUND.get(benchmark, False), changes=changes)


@pytest.mark.parametrize("name", OWN_PROTOCOLS)
def test_the_protocols_of_own_models_are_known_by_name(name: str) -> None:
    file = ROOT / "eval" / "segmentation" / "protocols" / "own" / f"{name}.yaml"
    assert read(name, "voc21").settings == read(str(file), "voc21").settings
    assert read(name, "voc20").name == name
    with pytest.raises(ArgumentError, match=f"did you mean {name!r}"):
        read(f"{name}s", "voc20")


@pytest.mark.parametrize("benchmark", ["voc20", "voc21", "custom"])
def test_the_protocol_segment_is_what_the_segmenter_does_by_itself(benchmark: str) -> None:
    protocol = read("segment", benchmark)
    assert protocol.settings == SegmenterSettings(background="none")  # "auto" for several labels
    assert (protocol.names, protocol.changed) == ("plain", ())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_published_settings(name):
    for benchmark in BENCHMARKS:
        protocol = read(name, benchmark)
        assert (protocol.settings.size, protocol.settings.window, protocol.settings.window_step) == SIZES[name][
            benchmark
        ], benchmark
        assert protocol.settings.accumulate == "pixel"
        assert protocol.changed == ()
        if benchmark not in BACKGROUND:
            assert (protocol.settings.logit_scale, protocol.settings.background) == (BACKGROUNDS[name][3], "none")
            assert protocol.settings.min_area == 0
    found = tuple((p.settings.logit_scale, p.settings.background) for p in (read(name, b) for b in BACKGROUND))
    assert found == BACKGROUNDS[name][:3]


def test_what_only_some_have():
    areas = {name: read(name, "voc21").settings.min_area for name in PROTOCOLS}
    assert areas == {**dict.fromkeys(PROTOCOLS, 0), "sclip": 0.1}
    assert read("sclip", "context60").settings.min_area == 0
    settings = {name: read(name, "ade150").settings for name in PROTOCOLS}
    refined = {name: (own.refine, own.refine_on) for name, own in settings.items() if own.refine}
    assert refined == {"naclip": (10, "cosines"), "tcl": (10, "probabilities")}
    assert {read(name, "ade150").settings.dilations for name in PROTOCOLS} == {None}
    assert {"cosines": (8, 16), "probabilities": signature(refine).parameters["dilations"].default} == DILATIONS
    assert {name for name in PROTOCOLS if not read(name, "voc21").background_text} == {"tcl", "pacl"}
    smooth = {name for name in PROTOCOLS if read(name, "voc20").settings.interpolation == "bicubic"}
    assert smooth == {"pacl"}  # the others were measured with mmsegmentation
    assert {name: read(name, "voc20").settings.stride for name in PROTOCOLS if read(name, "voc20").settings.stride} == {
        "pacl": 4
    }
    own = {"sclip": "sclip", "naclip": "sclip", "clearclip": "clearclip", "proxyclip": "proxyclip"}
    for benchmark in BENCHMARKS:
        for name in PROTOCOLS:  # what ClearCLIP and ProxyCLIP have no list of their own for, they share with SCLIP
            shared = benchmark not in ("voc20", "voc21", "coco_object")
            usual = "plain" if name not in own else "sclip" if shared else own[name]
            assert read(name, benchmark).names == usual
    counts = {name: len(get_templates(read(name, "voc20").settings.templates)) for name in PROTOCOLS}
    assert counts == {"sclip": 80, "naclip": 80, "clearclip": 80, "proxyclip": 80, "tcl": 9, "pacl": 7}


def test_a_benchmark_that_no_protocol_mentions_gets_the_general_settings():
    assert read("sclip", "camvid") == read("sclip", "voc20")


def test_changes_are_named_and_settings_that_stay_are_not():
    protocol = read("naclip", "ade150", refine=0, size=336, window=200)
    assert (protocol.settings.refine, protocol.settings.window, protocol.settings.window_step) == (0, 200, None)
    assert protocol.changed == ("refine", "window", "window_step")
    assert read("naclip", "ade150", window=224, window_step=112).changed == ()
    assert read("sclip", "voc20", background="threshold:0.3").changed == ()  # there is no class 0 to speak of
    assert read("sclip", "voc21", background="threshold:0.3").changed == ("background",)


def test_the_settings_are_the_segmenters():
    settings = read("naclip", "context60").settings
    assert (settings.size, settings.window, settings.window_step, settings.accumulate) == (336, 224, 112, "pixel")
    assert (settings.refine, settings.refine_on) == (10, "cosines")


def test_what_is_refined_is_not_asked_for_where_nothing_is():
    assert read("naclip", "voc21", refine_on="probabilities").changed == ("refine_on",)
    with pytest.raises(ArgumentError, match="refine_on cosines"):
        read("naclip", "voc21", refine=0, refine_on="cosines")


def test_what_the_published_codes_do_otherwise():
    """Position embeddings as if of n + 0.1 patches, two steps of upsampling, whole images cut to whole patches."""

    def switches(name: str, benchmark: str, **changes: object) -> tuple[str, str, str]:
        settings = read(name, benchmark, **changes).settings
        return settings.positions, settings.remainder, settings.upsampling

    ours = ("centres", "resize", "once")
    assert switches("pacl", "voc20") == switches("tcl", "voc20") == ours
    assert switches("sclip", "voc20") == switches("sclip", "coco_stuff") == ("published", "resize", "once")
    assert switches("clearclip", "voc20") == switches("proxyclip", "voc21") == ("published", "resize", "twice")
    assert switches("naclip", "ade150") == ("published", "resize", "twice")
    assert switches("naclip", "voc20") == switches("naclip", "voc21") == ("published", "cut", "twice")
    changes = {"positions": "centres", "remainder": "resize", "upsampling": "once"}
    assert switches("naclip", "voc20", **changes) == ours
    assert read("naclip", "voc20", **changes).changed == tuple(sorted(changes))
    merged = read("naclip", "voc20", accumulate="patch")  # one patch grid has no remainder to cut
    assert (merged.settings.remainder, merged.changed) == ("resize", ("accumulate", "remainder"))


def test_the_prior_is_off_in_published_protocols_and_a_change_reaches_the_segmenter(tmp_path):
    assert {read(name, "voc20").settings.prior for name in PROTOCOLS} == {0.0}
    protocol = read("sclip", "voc20", prior=0.3)
    assert (protocol.settings.prior, protocol.settings.prior, protocol.described()["prior"]) == (0.3, 0.3, 0.3)
    assert protocol.changed == ("prior",)
    assert read("sclip", "voc20", prior=0.0).changed == ()
    (tmp_path / "mine.yaml").write_text("prior: null\n")
    assert read(str(tmp_path / "mine.yaml"), "voc20").settings.prior is None  # the model's own
    with pytest.raises(ArgumentError) as error:
        read("sclip", "voc20", prior=float("inf"))
    assert error.value.argument == "prior"


def test_published_protocols_take_one_scale_and_a_file_may_say_otherwise(tmp_path):
    assert {read(name, "voc20").settings.scales for name in PROTOCOLS} == {(1.0,)}
    for text, scales in (("[1, 1.5]", (1, 1.5)), ("null", None), ("[2]", (2,))):
        (tmp_path / "mine.yaml").write_text(f"accumulate: patch\nscales: {text}\n")
        protocol = read(str(tmp_path / "mine.yaml"), "voc20")
        assert protocol.settings.scales == protocol.settings.scales == protocol.described()["scales"] == scales


def test_the_photo_models_protocol_takes_what_the_model_brings():
    path = str(ROOT / "eval" / "segmentation" / "protocols" / "own" / "photos.yaml")
    protocol = read(path, "voc21")
    assert (protocol.settings.scales, protocol.settings.background, protocol.background_text) == (
        None,
        "peak:0.6",
        False,
    )
    assert read(path, "voc20").settings.background == "none"


def test_a_protocol_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    (tmp_path / "two.txt").write_text("a {}.\nthe {}.\n")
    file.write_text("size: 200\ntemplates: two.txt\nlogit_scale: 30\nbenchmarks:\n  voc20: {stride: 8}\n")
    protocol = read(str(file), "voc20")
    assert (protocol.name, protocol.settings.size, protocol.settings.stride, protocol.settings.logit_scale) == (
        str(file),
        200,
        8,
        30,
    )
    assert get_templates(protocol.settings.templates) == ("a {}.", "the {}.")
    told = protocol.described()
    assert (told["templates"], told["template_texts"]) == ("two.txt", ("a {}.", "the {}."))
    assert "template_texts" not in read("sclip", "voc20").described()  # known by their name
    assert read(str(file), "voc21").settings.stride is None


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("- size", "mine.yaml"),
        ("size: [", "mine.yaml"),
        ("sise: 3", "sise"),
        ("size: big", "size is 'big'"),
        ("window: whole", "window is 'whole'"),
        ("size: " + "9" * 5000, "mine.yaml"),
        ("[" * 5000, "mine.yaml"),
        ("refine: -1", "refine -1"),
        ("prior: -.inf", "prior -inf"),
        ("prior: .nan", "prior nan"),
        ("prior: much", "prior is 'much'"),
        ("benchmarks: {voc22: {size: 3}}", "voc22"),
        ("size: true", "size is True"),
        ("size: 0", "size 0"),
        ("background: contrast", "background contrast"),
        ("background: threshold:3", "background threshold:3"),
        ("background: peak:3", "background peak:3"),
        ("scales: []", "scales"),
        ("scales: [1, 0]", "scales 1,0"),
        ("scales: [a]", "scales is ['a']"),
        ("scales: [true]", "scales is [True]"),
        ("scales: 2", "scales is 2"),
        ("scales: [1, 2]\naccumulate: pixel", "scales 1,2"),
        ("min_area: 2", "min_area 2"),
        ("refine_on: masks", "refine_on is 'masks'"),
        ("dilations: []", "dilations"),
        ("dilations: [a]", "dilations is ['a']"),
        ("benchmarks: [voc20]", "benchmarks"),
        ("benchmarks: {voc20: 3}", "benchmarks"),
        ("benchmarks: {voc20: {name: x}}", "name"),
    ],
)
def test_what_is_no_protocol_is_refused(tmp_path: Path, content: str, named: str):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError) as error:
        read_protocol(str(tmp_path / "mine.yaml"), "voc21", background=True)
    assert "mine.yaml" in str(error.value)
    assert named in str(error.value)


@pytest.mark.parametrize(("name", "close"), [("nacip", "naclip"), ("something", "clearclip")])
def test_a_misspelt_name(name: str, close: str):
    with pytest.raises(ArgumentError) as error:
        read(name, "voc20")
    assert error.value.argument == "protocol"
    assert close in error.value.reason
