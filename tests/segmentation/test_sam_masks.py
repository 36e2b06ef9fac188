"""Regions to prompts, and masks to labels: with a SAM that returns known masks."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pacl.errors import UserError
from pacl.segmentation import sam_masks
from pacl.segmentation.result import Segmentation
from pacl.segmentation.sam_masks import find_regions, peaks
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import COLOURS, ColourModel
from tests.sams import FakeSam, tiny_sam, tiny_sam2

Answer = Callable[[tuple[int, ...]], list[tuple[slice, slice]]]
LEFT, RIGHT = (0, 0, 31, 63), (32, 0, 63, 63)
"""Boxes of the halves."""


def halves(first: str = "red", second: str = "blue", size: int = 64) -> np.ndarray:
    """An image whose left half has one colour, and whose right half has another."""
    image = np.empty((size, size, 3), np.uint8)
    image[:, : size // 2], image[:, size // 2 :] = COLOURS[first], COLOURS[second]
    return image


def columns(start: int, stop: int) -> tuple[slice, slice]:
    return (slice(None), slice(start, stop))


def segmenter_with(answer: Answer | FakeSam, monkeypatch: pytest.MonkeyPatch, **settings: object) -> Segmenter:
    sam = answer if isinstance(answer, FakeSam) else FakeSam(answer)
    monkeypatch.setattr("pacl.segmentation.segmenter.load_sam", lambda name, device: sam)
    return Segmenter(ColourModel(), SegmenterSettings(refine="sam:fake", **settings))


def labelled(answer: Answer, monkeypatch: pytest.MonkeyPatch, labels: list[str], **settings: object) -> Segmentation:
    return segmenter_with(answer, monkeypatch, **settings).predict_batch([halves()], labels)[0]


def whole_box(masks: dict[tuple[int, ...], list[tuple[slice, slice]]]) -> Answer:
    """Known masks for known boxes, and that of the box for others."""
    return lambda box: masks.get(box, [(slice(box[1], box[3] + 1), slice(box[0], box[2] + 1))])


# --- Regions --------------------------------------------------------------------------------------------------------


def test_regions_are_the_connected_parts_of_labels_with_their_boxes_and_points() -> None:
    ids, likely = np.zeros((40, 50), np.uint8), np.full((40, 50), 0.5, np.float32)
    ids[2:12, 3:13], ids[20:30, 30:45], ids[5:9, 20:28] = 2, 2, 1
    ids[35, 49] = 1  # too small
    likely[10, 4], likely[25, 40], likely[0, 0] = 0.9, 0.8, 1.0
    found = list(find_regions(ids, likely))
    assert [(each.id, each.box) for each in found] == [
        (1, (20, 5, 27, 8)), (2, (3, 2, 12, 11)), (2, (30, 20, 44, 29))
    ]  # fmt: skip
    assert found[1].points[0] == (4, 10)
    assert found[2].points[0] == (40, 25)
    for region in found:
        rows, cols = np.nonzero(region.cells)
        assert region.box == (cols.min(), rows.min(), cols.max(), rows.max())
        assert set(ids[region.cells].tolist()) == {region.id}
        assert len(region.points) == sam_masks.POINTS
        assert all(region.cells[y, x] for x, y in region.points)


def test_points_are_the_most_probable_cells_with_a_distance() -> None:
    likely = np.zeros((20, 60), np.float32)
    likely[10, 10], likely[10, 11], likely[10, 30], likely[10, 50] = 1.0, 0.99, 0.9, 0.8
    assert peaks(likely, np.ones_like(likely, bool)) == [(10, 10), (30, 10), (50, 10)]


def test_in_a_region_of_one_cell_its_point_is_repeated() -> None:
    cells = np.zeros((3, 3), bool)
    cells[1, 2] = True
    assert peaks(np.zeros((3, 3), np.float32), cells) == [(2, 1)] * sam_masks.POINTS


# --- Masks ----------------------------------------------------------------------------------------------------------


def test_masks_replace_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = whole_box({LEFT: [columns(0, 20)], RIGHT: [columns(20, 64)]})
    segmenter = segmenter_with(answer, monkeypatch)
    found = segmenter.predict_batch([halves()], ["red", "blue"])[0]
    assert (found.index == np.where(np.arange(64) < 20, 1, 2)).all()
    assert found.shares == [20 / 64, 44 / 64]
    assert segmenter.sam.boxes == [LEFT, RIGHT]  # type: ignore[union-attr]
    assert found.scores[1] == pytest.approx(found.probabilities[1][:, 20:].mean(), abs=1e-5)


def test_the_larger_image_has_the_masks_of_the_small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = whole_box({LEFT: [columns(0, 20)], RIGHT: [columns(20, 64)]})
    segmenter = segmenter_with(answer, monkeypatch)
    monkeypatch.setattr("pacl.segmentation.patch_maps.BAND_BYTES", 4 * 2 * 256 * 7)  # bands of 7 rows
    found = segmenter.predict_batch([halves(size=256)], ["red", "blue"])[0]
    assert (found.index == np.where(np.arange(256) < 80, 1, 2)).mean() > 0.99


def test_where_masks_overlap_the_more_probable_label_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = whole_box({LEFT: [columns(0, 50)], RIGHT: [columns(10, 64)]})
    assert (labelled(answer, monkeypatch, ["red", "blue"]).index == np.where(np.arange(64) < 32, 1, 2)).all()


def test_pixels_in_no_mask_keep_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = whole_box({LEFT: [columns(5, 20)], RIGHT: [columns(40, 64)]})
    assert (labelled(answer, monkeypatch, ["red", "blue"]).index == np.where(np.arange(64) < 32, 1, 2)).all()


@pytest.mark.parametrize("background", ["prompt:blue", "threshold:0.6"])
def test_with_a_background_rule_a_region_ends_where_its_mask_does(
    background: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = labelled(
        lambda box: [columns(0, 20)],
        monkeypatch,
        ["red"] + ["green"] * (background != "prompt:blue"),
        background=background,
    )
    assert (found.index[:, :20] == 1).all()
    assert (found.index[:, 20:] == 0).all()
    assert found.shares[0] == 20 / 64


def test_a_mask_reaches_into_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    found = labelled(whole_box({LEFT: [columns(0, 40)]}), monkeypatch, ["red"], background="prompt:blue")
    assert (found.index == (np.arange(64) < 40)).all()


def test_of_several_masks_the_one_that_agrees_with_the_region_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    several = [columns(0, 8), columns(0, 30), columns(0, 64)]  # a part, the thing, everything
    found = labelled(whole_box({LEFT: several}), monkeypatch, ["red"], background="prompt:blue")
    assert (found.index == (np.arange(64) < 30)).all()


@pytest.mark.parametrize("mask", [columns(0, 0), columns(0, 7), columns(40, 64)])
def test_a_region_whose_mask_is_of_something_else_stays(
    mask: tuple[slice, slice], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = labelled(whole_box({LEFT: [mask]}), monkeypatch, ["red"], background="prompt:blue")
    assert (found.index == (np.arange(64) < 32)).all()


def test_small_regions_stay_beside_replaced_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_masks, "MIN_SHARE", 0.1)
    image = halves()
    image[24:40, 48:] = COLOURS["red"]
    segmenter = segmenter_with(whole_box({LEFT: [columns(0, 20)]}), monkeypatch, background="prompt:blue")
    found = segmenter.predict_batch([image], ["red"])[0]
    assert segmenter.sam.boxes == [LEFT]  # type: ignore[union-attr]
    assert (found.index[:, :20] == 1).all()
    assert (found.index[:16, 20:] == 0).all()
    assert (found.index[26:38, 52:] == 1).all()


def test_an_image_without_regions_keeps_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = segmenter_with(whole_box({}), monkeypatch, background="prompt:blue")
    assert not segmenter.predict_batch([halves("blue")], ["red"])[0].index.any()
    assert segmenter.sam.boxes == []  # type: ignore[union-attr]


# --- The way through the segmenter ----------------------------------------------------------------------------------


def test_an_image_is_encoded_once_for_all_words(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = segmenter_with(whole_box({}), monkeypatch)
    segmenter.set_image(halves())
    first = segmenter.predict(["red", "blue"]).index
    segmenter.predict(["green", "blue"])
    assert segmenter.sam.encoded == [(3, 64, 64)]  # type: ignore[union-attr]
    assert (segmenter.predict(["red", "blue"]).index == first).all()


@pytest.mark.parametrize("make", [tiny_sam, tiny_sam2])
def test_a_real_sam_refines_single_images_and_batches_alike(
    make: Callable[[], torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", minversion="4.56")
    make().save_pretrained(tmp_path / "sam")
    monkeypatch.setattr(sam_masks, "MIN_AGREEMENT", 0.0)  # its masks are random: none of them, or everything
    settings = SegmenterSettings(refine=f"sam:{tmp_path / 'sam'}", background="prompt:blue")
    segmenter = Segmenter(ColourModel(), settings)
    images = [halves(), halves("teal", "red", size=96), halves()[:40]]
    found = segmenter.predict_batch(images, ["red"])
    plain = Segmenter(ColourModel(), replace(settings, refine=0)).predict_batch(images, ["red"])
    assert [each.index.shape for each in found] == [image.shape[:2] for image in images]
    assert {each.index.dtype for each in found} == {np.dtype(np.uint8)}
    assert any((own.index != other.index).any() for own, other in zip(found, plain, strict=True))
    segmenter.set_image(images[1])
    assert (segmenter.predict(["red"]).index == found[1].index).all()


def test_records_state_the_sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = labelled(whole_box({}), monkeypatch, ["red", "blue"])
    assert found.save(tmp_path)["settings"]["refine"] == "sam:fake"
    assert json.loads((tmp_path / "image.json").read_text())["settings"]["refine"] == "sam:fake"


# --- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"refine": "sam:"}, "refine"),
        ({"refine": "sam"}, "refine"),
        ({"refine": ""}, "refine"),
        ({"refine": "ten"}, "refine"),
        ({"refine": "sam:x", "dilations": (1,)}, "dilations"),
        ({"refine": "sam:x", "refine_on": "cosines"}, "refine_on"),
        ({"refine": "sam:no-such-folder"}, "refine"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_name_their_argument(settings: dict, argument: str) -> None:
    with pytest.raises(UserError) as error:
        Segmenter(ColourModel(), SegmenterSettings(**settings))
    assert getattr(error.value, "argument", "") == argument
    assert "\n" not in str(error.value)


def test_steps_and_sam_are_told_apart() -> None:
    settings = [SegmenterSettings(refine=value) for value in (0, 10, "sam:a/b")]
    assert [each.refine_steps for each in settings] == [0, 10, 0]
    assert [each.sam for each in settings] == [None, None, "a/b"]
    assert dataclasses.asdict(settings[2])["refine"] == "sam:a/b"
