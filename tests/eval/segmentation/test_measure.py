"""From pictures to counts: known answers, shared patches, blocks that survive and add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from eval.segmentation import measure as segmenting
from eval.segmentation.measure import Bench, Extras, Row, gather, measure, part_file
from eval.segmentation.protocol import PUBLISHED, Protocol, read_protocol
from pacl.data.masks import IGNORED, MaskFolder
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from pacl.models.model import PACL
from pacl.prompts import Label
from pacl.segmentation.background import parse_background
from pacl.segmentation.encode import as_tensor, resize
from pacl.segmentation.query import Query
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import COLOURS, ColourModel, noise, picture
from tests.tiny import trained_head


def a_protocol(background_text: bool = True, present: bool = False, **settings: Any) -> Protocol:
    settings = {**PUBLISHED, "templates": "none", **settings}
    return Protocol("mine", SegmenterSettings(**settings), background_text=background_text, present=present)


PLAIN = a_protocol(size=64)
RED, GREEN, BLUE, GREY = (Label(name, (name,)) for name in ("red", "green", "blue", "grey"))


def folder_of(tmp_path: Path, count: int = 5, names: str = "red\ngreen\nblue\n") -> MaskFolder:
    """Pictures of 64 x 64 in patches of 8: the left half red, the right green; picture i has i wrong label rows."""
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir(exist_ok=True)
    for i in range(count):
        image = np.empty((64, 64, 3), np.uint8)
        image[:, :32], image[:, 32:] = COLOURS["red"], COLOURS["green"]
        mask = np.zeros((64, 64), np.uint8)
        mask[:, 32:] = 1
        mask[:i] = 2  # "blue", which nothing shows
        mask[-1] = 255
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i:02}.png")
    (tmp_path / "names.txt").write_text(names)
    return MaskFolder(str(tmp_path / "images"), str(tmp_path / "masks"), str(tmp_path / "names.txt"))


def ask(labels: list[Label], background: bool, protocol: Protocol) -> Query:
    return Row("pacl", ColourModel(), protocol, labels, background).prepare({}).query.query  # type: ignore[arg-type]


def a_bench(folder: MaskFolder, **extras: bool) -> Bench:
    return Bench(folder, [Row("naclip", ColourModel(), PLAIN, folder.labels, False)], Extras(**extras))


# --- Known answers ----------------------------------------------------------------------------------------------


def test_counts_of_pictures_whose_answer_is_known(tmp_path):
    folder = folder_of(tmp_path)
    bench = a_bench(folder, boundary=True, patches=True)
    measure(bench, tmp_path / "parts", batch=2)
    counts = gather(bench, tmp_path / "parts")
    assert counts.index.tolist() == [0, 1, 2, 3, 4]
    for i in range(5):
        hits, predicted, true = counts.areas[i, 0]
        half = 32 * (63 - i)
        assert true.tolist() == [half, half, 64 * i]
        assert hits.tolist() == [half, half, 0]
        assert predicted.tolist() == [32 * 63, 32 * 63, 0]
    wrong = 32 * (0 + 1 + 2 + 3 + 4)
    right = 5 * 32 * 63 - wrong
    assert counts.confusion[0].tolist() == [[right, 0, 0], [0, right, 0], [wrong, wrong, 0]]
    assert counts.patches is not None
    assert counts.bound is not None
    assert counts.patches[:, 0].tolist() == [[64, 64]] * 5  # four wrong rows of eight are no majority: ties go down
    assert counts.bound[0].tolist() == counts.areas[0, 0].tolist()
    assert counts.boundary is not None
    assert counts.boundary[0, 0, 0].tolist() == counts.boundary[0, 0, 2].tolist()


def test_a_class_0_that_is_none_of_these(tmp_path):
    """Grey is "none of these": by its own name, and by a threshold that the undecided do not pass."""
    image = picture(64, 64, (0, 32, 0, 64))  # red above, grey below
    labels = [Label("background", ("grey", "teal")), RED, BLUE]
    for rule, text in (("none", True), ("threshold:0.9", False)):
        protocol = a_protocol(size=64, background=rule, background_text=text, logit_scale=1)
        row = Row("pacl", ColourModel(), protocol, labels, True)
        ((_, found),) = next(Bench(folder_of(tmp_path), [row], Extras()).predict([image]))
        assert found[:28].tolist() == [[1] * 64] * 28 if text else found.max() == 0  # at scale 1 nothing is sure
        assert found[36:].max() == 0


def test_what_competes_and_in_which_order():
    sky = tuple(f"{word} {colour}" for word in ("a", "the", "one") for colour in ("red", "green", "teal"))
    labels = [Label("background", (*sky, "blue")), Label("blue", ("blue", "grey")), Label("red", ("red",))]
    protocol = read_protocol("sclip", "voc21", background=True)
    query = ask(labels, True, protocol)
    assert query.prompts == (*sky, "blue", "blue", "grey", "red")
    assert query.ids == (*[0] * 10, 1, 1, 2)
    assert (len(query.labels), str(query.background), protocol.settings.min_area) == (2, "threshold:0.1", 0.1)
    silent = ask([labels[0], RED, GREEN, BLUE, GREY, labels[2]], True, read_protocol("pacl", "voc21", background=True))
    assert silent.prompts == ("red", "green", "blue", "grey", "red")
    assert silent.ids == (1, 2, 3, 4, 5)
    plain = ask(labels[1:], False, read_protocol("sclip", "voc20", background=False))
    assert (plain.prompts, plain.ids, plain.background) == (
        ("blue", "grey", "red"),
        (1, 1, 2),
        parse_background("none"),
    )


def test_the_class_of_each_prompt():
    def classes(labels: list[Label], background: bool) -> list[int]:
        return Row("pacl", ColourModel(), PLAIN, labels, background).prepare({}).classes  # type: ignore[arg-type]

    assert classes([Label("red", ("red", "teal")), GREEN], False) == [0, 0, 1]
    assert classes([Label("none", ("grey",)), RED, GREEN], True) == [0, 1, 2]


def test_a_name_of_two_classes_goes_to_the_first(tmp_path):
    """As the first of equal maxima does in the published code."""
    labels = [Label("background", ("grey", "red")), RED]
    row = Row("pacl", ColourModel(), PLAIN, labels, True)  # type: ignore[arg-type]
    ((_, found),) = next(Bench(folder_of(tmp_path), [row], Extras()).predict([picture(64, 64, (0, 64, 0, 64))]))
    assert found.max() == 0


def test_a_limit_that_can_never_hold_is_refused_before_anything_is_measured(tmp_path):
    protocol = a_protocol(background="entropy:1.5", background_text=False)
    with pytest.raises(ArgumentError) as error:
        Bench(folder_of(tmp_path), [Row("pacl", ColourModel(), protocol, [GREY, RED, BLUE], True)], Extras())  # type: ignore[arg-type]
    assert error.value.argument == "background"


def calibrated() -> ColourModel:
    """One to which grey is nothing: red scores 0.42 where it is, and 0 on grey."""
    model = ColourModel()
    model.centre = model.encode_prompts(["grey"])[0]  # type: ignore[assignment]
    model.config.presence = 0.3
    return model


PEAK = a_protocol(size=64, background="peak:0.6", background_text=False)


def test_under_peak_class_0_is_what_scores_too_little(tmp_path):
    image = picture(64, 64, (0, 32, 0, 64))  # red above, grey below
    row = Row("pacl", calibrated(), PEAK, [GREY, RED, BLUE], True)  # type: ignore[arg-type]
    nothing = Row("pacl", calibrated(), PEAK, [GREY, BLUE, GREEN], True)  # type: ignore[arg-type]
    ((_, found),), ((_, none),) = (
        next(Bench(folder_of(tmp_path), [each], Extras()).predict([image])) for each in (row, nothing)
    )
    assert found[:28].tolist() == [[1] * 64] * 28
    assert found[36:].max() == none.max() == 0


def test_peak_of_a_model_that_is_not_calibrated_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ArgumentError) as error:
        Bench(folder_of(tmp_path), [Row("pacl", ColourModel(), PEAK, [GREY, RED, BLUE], True)], Extras())  # type: ignore[arg-type]
    assert error.value.argument == "background"


def test_the_level_of_peak_is_no_prompt_and_does_not_count_in_patches(tmp_path):
    """Patches are counted by their cosines with the prompts, whatever the rule."""
    folder = folder_of(tmp_path, names="none\nred\ngreen\n")
    labels, counted = [GREY, Label("red", ("red", "teal")), GREEN], []
    for protocol in (PEAK, a_protocol(size=64, background="threshold:0.5", background_text=False)):
        row = Row("pacl", calibrated(), protocol, labels, True)  # type: ignore[arg-type]
        assert row.prepare({}).classes == [1, 1, 2]
        bench = Bench(folder, [row], Extras(patches=True))
        measure(bench, tmp_path / protocol.settings.background)
        counted.append(gather(bench, tmp_path / protocol.settings.background).patches)
    assert counted[0] is not None
    assert counted[0].sum() > 0
    assert np.array_equal(counted[0], counted[1])


def test_a_class_0_that_nothing_can_become_is_refused():
    with pytest.raises(ArgumentError) as error:
        ask([GREY, RED, BLUE], True, a_protocol(background_text=False))
    assert error.value.argument == "background"


def test_refined_cosines_follow_the_pictures_edges(tmp_path):
    """The edge lies within a patch, at pixel 28 of 64: without refinement it cannot be found."""
    image = picture(64, 64, (0, 64, 0, 28))
    folder = folder_of(tmp_path)

    def wrong(refine: int) -> int:
        protocol = a_protocol(size=64, refine=refine, dilations=(1, 2) if refine else None)
        row = Row("pacl", ColourModel(), protocol, [RED, GREY], False)  # type: ignore[arg-type]
        ((_, found),) = next(Bench(folder, [row], Extras()).predict([image]))
        return int((found[:, :28] != 0).sum() + (found[:, 28:] != 1).sum())

    assert wrong(10) < wrong(0)


@pytest.mark.parametrize("size", [(60, 90), (97, 64)])
def test_the_published_protocol_step_by_step(tmp_path, tiny_clip, size):
    """Windows upsampled, averaged, resized to the label, softmax over names, best synonym, small areas, threshold."""
    model = PACL.untrained(load_backbone(tiny_clip), dense="value")
    words = ["sky", "wall", "grass", "bed", "house number 3", "x"]
    labels = [
        *(Label("none", ("sky", "wall")), Label("grass", ("grass", "bed"))),
        *(Label("house", ("house number 3",)), Label("x", ("x",))),
    ]
    protocol = a_protocol(size=48, window=32, window_step=16, logit_scale=12, background="threshold:0.33",
        min_area=0.12,
    )  # fmt: skip
    image = noise(*size)
    row = Row("naclip", model, protocol, labels, True)
    ((_, found),) = next(Bench(folder_of(tmp_path), [row], Extras()).predict([image]))

    texts = model.encode_prompts(words)
    factor = 48 / min(size)
    height, width = (int(side * factor + 0.5) for side in size)
    resized = model.clip.normalize(resize(as_tensor(image), (height, width), "bilinear"))
    total, count = torch.zeros(6, height, width), torch.zeros(1, height, width)
    with torch.inference_mode():
        for y in sorted({min(i, height - 32) for i in range(0, height - 16, 16)}):
            for x in sorted({min(i, width - 32) for i in range(0, width - 16, 16)}):
                patches, _ = model.encode_patches(resized[None, :, y : y + 32, x : x + 32])  # [1, 16, D]
                cosines = (patches @ texts.T).mT.unflatten(2, (4, 4))  # [1, N, 4, 4]
                total[:, y : y + 32, x : x + 32] += F.interpolate(cosines, (32, 32), mode="bilinear")[0]
                count[:, y : y + 32, x : x + 32] += 1
        logits = 12 * F.interpolate((total / count)[None], size, mode="bilinear")[0]
    names = logits.softmax(0)
    scores = torch.stack([names[:2].amax(0), names[2:4].amax(0), names[4], names[5]])
    area = torch.stack([(scores.argmax(0) == c).sum() for c in range(4)])
    small = [c for c in (1, 2, 3) if area[c] <= 0.12 * area[1:].sum()]
    scores[small] = 0
    expected = scores.argmax(0)
    expected[scores.amax(0) < 0.33] = 0
    assert small, "the case is to have a class that gives way"
    assert len(expected.unique()) >= 3
    assert 0.02 < (scores.amax(0) < 0.33).float().mean() < 0.98
    assert (expected.numpy() != found).mean() < 1e-3  # the order of sums differs


SEGMENTED = {
    "templates": "photo", "size": 48, "scales": (1.0, 1.5), "accumulate": "patch", "interpolation": "bicubic",
    "logit_scale": 30.0, "prior": 0.7, "refine": 3, "refine_on": "probabilities",
}  # fmt: skip
NAMES = {"sky": ("sky", "a wall"), "grass": ("grass", "lawn", "bed"), "house": ("house number 3",), "x": ("x",)}


def labels_of_both(
    tmp_path: Path,
    clip: str,
    names: dict[str, tuple[str, ...]] = NAMES,
    smoothing: float = 0.2,
    calibrated: bool = False,
    **changes: object,
) -> tuple[np.ndarray, np.ndarray]:
    """What the benchmark and the segmenter say of one picture, [H, W] each, 0 where it is none of the names."""
    model = PACL.untrained(load_backbone(clip), dense="value", smoothing=smoothing, prior=0.2)
    if calibrated:
        model.config.presence = 0.01
        model.centre = 0.1 * F.normalize(torch.arange(16.0) - 7.5, dim=0)
    background = "background" in changes
    protocol = a_protocol(background_text=False, **{**SEGMENTED, **changes})
    labels = [Label(name, prompts) for name, prompts in names.items()]
    image = noise(60, 90)
    row = Row("pacl", model, protocol, [Label("none", ("none",)), *labels] if background else labels, background)
    ((_, measured),) = next(Bench(folder_of(tmp_path), [row], Extras(), window_batch=3).predict([image]))
    segmenter = Segmenter(model, replace(protocol.settings, window_batch=3))
    segmenter.set_image(image)
    found = segmenter.predict(labels).index
    return measured + (not background), found


BOTH = {
    "all": {"background": "threshold:0.27"},
    "entropy": {"background": "entropy:1.37"},
    "no background": {},
    "the model's own prior, scales and scale": {
        "background": "threshold:0.18", "prior": None, "scales": None, "logit_scale": None,
    },
    "windows by pixel": {
        "background": "threshold:0.27", "scales": None, "window": 24, "window_step": 12, "accumulate": "pixel",
    },
    "overlapping patches": {"background": "threshold:0.27", "window": 32, "stride": 4},
    "calibrated": {"background": "peak:0.9", "calibrated": True, "templates": "none"},
    "a negative prior": {"background": "peak:0.9", "calibrated": True, "templates": "none", "prior": -0.3},
}  # fmt: skip


@pytest.mark.parametrize("changes", BOTH.values(), ids=BOTH)
def test_labels_are_those_that_the_segmenter_gives(tmp_path, tiny_clip, changes):
    measured, found = labels_of_both(tmp_path, tiny_clip, **changes)
    assert np.array_equal(measured, found)
    assert len(np.unique(found)) >= 3
    assert (0 in found) == ("background" in changes)


def test_each_setting_of_both_counts(tmp_path, tiny_clip):
    """Two that both forget a setting would be equal, too."""
    usual, _ = labels_of_both(tmp_path, tiny_clip, **BOTH["all"])
    first = {name: prompts[:1] for name, prompts in NAMES.items()}
    for changes in (
        *(
            {"prior": 0.0},
            {"prior": -0.7},
            {"smoothing": 0.0},
            {"refine": 0},
            {"names": first},
            {"background": "threshold:0.2"},
        ),
        *({"scales": (1.0,)}, {"templates": "none"}, {"logit_scale": 20.0}),
    ):
        measured, found = labels_of_both(tmp_path, tiny_clip, **{**BOTH["all"], **changes})
        assert np.array_equal(measured, found), changes
        assert not np.array_equal(measured, usual), changes


# --- Several rows -----------------------------------------------------------------------------------------------


def test_lists_of_names_share_a_pictures_patches(tmp_path):
    folder = folder_of(tmp_path)
    model = ColourModel()
    swapped = [Label("red", ("green",)), Label("green", ("red",)), BLUE]
    rows = [Row("pacl", model, PLAIN, folder.labels, False), Row("pacl", model, PLAIN, swapped, False)]  # type: ignore[arg-type]
    bench = Bench(folder, rows, Extras())
    measure(bench, tmp_path / "parts", batch=5)
    assert len(model.batches) == 1  # five pictures of one size, once
    areas = gather(bench, tmp_path / "parts").areas
    assert areas[0, 1, 0].tolist() == [0, 0, 0]
    assert areas[0, 0, 0].tolist() == [32 * 63, 32 * 63, 0]


def test_methods_in_one_run_count_what_each_counts_alone(tmp_path, tiny_clip):
    clip = load_backbone(tiny_clip)
    folder = folder_of(tmp_path)
    models = {"clip": PACL.untrained(clip, dense="clip"), "naclip": PACL.untrained(clip, dense="naclip")}
    models["pacl"] = trained_head(clip, dense="value")
    protocol = a_protocol(size=40, window=32)
    rows = [Row(name, model, protocol, folder.labels, False) for name, model in models.items()]
    bench = Bench(folder, rows, Extras())
    measure(bench, tmp_path / "all")
    together = gather(bench, tmp_path / "all")
    for r, row in enumerate(rows):
        bench = Bench(folder, [row], Extras())
        measure(bench, tmp_path / row.method)
        alone = gather(bench, tmp_path / row.method)
        assert np.array_equal(together.areas[:, r], alone.areas[:, 0])
        assert np.array_equal(together.confusion[r], alone.confusion[0])


# --- Blocks -----------------------------------------------------------------------------------------------------


def test_blocks_survive_and_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenting, "BLOCK", 3)
    folder = folder_of(tmp_path, count=8)
    measure(a_bench(folder), tmp_path / "one", batch=2)
    whole = gather(a_bench(folder), tmp_path / "one")
    for rank in (1, 0):
        measure(a_bench(folder), tmp_path / "two", rank=rank, ranks=2, batch=2)
    shared = gather(a_bench(folder), tmp_path / "two")
    assert np.array_equal(whole.areas, shared.areas)
    assert np.array_equal(whole.confusion, shared.confusion)

    part_file(tmp_path / "one", 1).unlink()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "one").iterdir()}
    bench, told = a_bench(folder), []
    counted: list[int] = []
    count = bench.count
    monkeypatch.setattr(bench, "count", lambda index, *rest: counted.extend(index) or count(index, *rest))
    measure(bench, tmp_path / "one", batch=2, progress=told.append)
    assert counted == [3, 4, 5]
    assert told == [5, 7, 8]
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in (tmp_path / "one").iterdir()}.items()
    assert np.array_equal(gather(bench, tmp_path / "one").areas, whole.areas)


def test_blocks_of_another_run_or_place_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenting, "BLOCK", 2)
    bench, other = a_bench(folder_of(tmp_path, count=4)), a_bench(folder_of(tmp_path, count=4))
    other.run = "another"
    parts = tmp_path / "parts"
    measure(bench, parts)
    assert len(gather(bench, parts).index) == 4
    with pytest.raises(UserError, match=r"00000\.npz is missing, damaged or of another run"):
        gather(other, parts)
    part_file(parts, 1).write_bytes(part_file(parts, 0).read_bytes())
    with pytest.raises(UserError, match=r"00001\.npz"):
        gather(bench, parts)
    measure(bench, parts)
    assert gather(bench, parts).index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_one_line_and_loses_nothing(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(segmenting, "BLOCK", 2)
    folder = folder_of(tmp_path)
    (tmp_path / "images" / "03.png").write_bytes(b"no picture")
    with pytest.raises(UserError) as raised:
        measure(a_bench(folder), tmp_path / "parts", batch=1, workers=workers)
    assert "03.png" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert part_file(tmp_path / "parts", 0).is_file()
    assert not part_file(tmp_path / "parts", 1).is_file()


def test_only_classes_that_the_mask_shows_compete(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    image = folder[0].image()
    target = np.full((64, 64), 2, np.int32)  # blue, though the image is red and green
    for asked, left, right in ((False, 0, 1), (True, 2, 2)):
        row = Row("naclip", ColourModel(), replace(PLAIN, present=asked), folder.labels, False)
        ((_, labels),) = next(iter(Bench(folder, [row], Extras()).predict([image], [target])))
        assert set(np.unique(labels[:, :28])) == {left}
        assert set(np.unique(labels[:, 36:])) == {right}


def test_with_only_what_the_mask_shows_the_level_of_peak_is_that_of_the_prompts_asked_for(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, names="none\nred\nblue\n")
    model = ColourModel()
    model.centre, model.config.presence = model.encode_prompts(["grey"])[0], 0.05  # type: ignore[assignment]
    image = np.empty((64, 64, 3), np.uint8)
    image[:], image[:, :16] = COLOURS["teal"], COLOURS["red"]
    target = np.zeros((64, 64), np.int32)
    target[:, 16:] = 2
    peak = a_protocol(size=64, background="peak:0.6", background_text=False, present=True)
    row: Any = Row("naclip", model, peak, folder.labels, True)  # type: ignore[arg-type]
    ((_, labels),) = next(iter(Bench(folder, [row], Extras()).predict([image], [target])))
    segmenter = Segmenter(model, SegmenterSettings(background="peak:0.6", accumulate=PLAIN.settings.accumulate))  # type: ignore
    segmenter.set_image(image)
    expected = segmenter.predict(["blue"]).mask(1)
    assert expected.any()
    np.testing.assert_array_equal(labels == 2, expected)


def test_a_class_is_shown_from_one_percent_of_the_labelled_pixels_on() -> None:
    target = np.full((200, 100), 2, np.int32)
    target[100:] = IGNORED
    target[0, :100], target[1, :99] = 4, 3
    assert segmenting.present(target) == {2, 4}
