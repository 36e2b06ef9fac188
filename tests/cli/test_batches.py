"""Images in batches: the same results as one by one, in order, with bad images reported in their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pacl.cli.batches import memory_saving, segment_all, segment_files
from pacl.cli.inputs import ImageFile
from pacl.errors import UserError
from pacl.image_batches import read
from pacl.results.writer import Writer
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import ColourModel, noise

SIZES = [(32, 48), (32, 48), (64, 32), (40, 40), (32, 48)]


@pytest.fixture
def files(tmp_path: Path) -> list[ImageFile]:
    for i, size in enumerate(SIZES):
        Image.fromarray(noise(*size, seed=i)).save(tmp_path / f"{i}.png")
    return [ImageFile(tmp_path / f"{i}.png", str(i)) for i in range(len(SIZES))]


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(ColourModel(), SegmenterSettings(window_batch=2))  # type: ignore[arg-type]


def outcomes(files: Sequence[ImageFile], segmenter: Segmenter, out: Path) -> list[Any]:
    query = segmenter.prepare(["red", "green", "blue"])
    found = list(segment_files(files, query, segmenter, Writer(out, ("mask",), {})))
    assert [file for file, _ in found] == list(files)
    return [record for _, record in found]


def test_masks_are_those_of_each_image_alone(files: list[ImageFile], segmenter: Segmenter, tmp_path: Path) -> None:
    records = outcomes(files, segmenter, tmp_path / "out")
    for i, size in enumerate(SIZES):
        segmenter.set_image(noise(*size, seed=i))
        expected = segmenter.predict(["red", "green", "blue"]).index
        assert np.array_equal(np.array(Image.open(tmp_path / "out" / f"{i}.mask.png")), expected)
        assert (records[i]["height"], records[i]["width"]) == size


def test_a_bad_image_is_an_outcome_in_its_place(files: list[ImageFile], segmenter: Segmenter, tmp_path: Path) -> None:
    files[1].path.write_bytes(b"not an image")
    files[3].path.unlink()
    records = outcomes(files, segmenter, tmp_path / "out")
    assert [isinstance(record, UserError) for record in records] == [False, True, False, True, False]
    assert all(str(files[i].path) in str(records[i]) for i in (1, 3))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["0.mask.png", "2.mask.png", "4.mask.png"]


@pytest.mark.parametrize(("pixels", "expected"), [(10**9, [2, 2, 1]), (1, [1] * 5), (2 * 32 * 48, [2, 1, 1, 1])])
def test_a_batch_is_bounded_in_images_and_pixels(
    files: list[ImageFile], segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int,
    expected: list[int],
) -> None:  # fmt: skip
    seen: list[int] = []
    predict = segmenter.predict_batch

    def counted(images: Sequence[np.ndarray], query: Any) -> Any:
        seen.append(len(images))
        return predict(images, query)

    monkeypatch.setattr("pacl.image_batches.BATCH_PIXELS", pixels)
    monkeypatch.setattr(segmenter, "predict_batch", counted)
    outcomes(files, segmenter, tmp_path / "out")
    assert seen == expected


def test_where_memory_does_not_suffice_for_a_batch_images_go_one_by_one(
    files: list[ImageFile], segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = segmenter.predict_batch

    def limited(images: Sequence[np.ndarray], query: Any) -> Any:
        if len(images) > 1 or images[0].shape[0] == 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return predict(images, query)

    monkeypatch.setattr(segmenter, "predict_batch", limited)
    records = outcomes(files, segmenter, tmp_path / "out")
    assert [isinstance(record, UserError) for record in records] == [False, False, True, False, False]
    assert str(files[2].path) in str(records[2])


def test_a_file_that_cannot_be_written_is_an_outcome(
    files: list[ImageFile], segmenter: Segmenter, tmp_path: Path
) -> None:
    (tmp_path / "out" / "2.mask.png").mkdir(parents=True)
    records = outcomes(files, segmenter, tmp_path / "out")
    assert [isinstance(record, UserError) for record in records] == [False, False, True, False, False]


def test_several_threads_write_images_at_once_and_outcomes_keep_their_order(
    files: list[ImageFile], segmenter: Segmenter
) -> None:
    together = threading.Barrier(2)

    def save(file: ImageFile, *_: Any) -> dict[str, Any]:
        together.wait(timeout=30)
        return {"name": file.name}

    query = segmenter.prepare(["red", "green", "blue"])
    found = list(segment_all(files[:4], query, segmenter, read, save, writers=2))
    assert [record for _, record in found] == [{"name": str(i)} for i in range(4)]


@pytest.mark.parametrize("formats", [("mask", "rle"), ("mask", "coco")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_order_matters_to_data_sets_and_to_what_is_replaced(
    files: list[ImageFile], segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    formats: tuple[str, ...], overwrite: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr("pacl.cli.batches.usable", lambda most: most)
    query, out = segmenter.prepare(["red", "green", "blue"]), tmp_path / "out"
    outcomes(files, segmenter, out)
    writer, threads = Writer(out, formats, {}, overwrite), set()
    write = Writer.write

    def watched(*args: Any, **more: Any) -> dict[str, Any]:
        threads.add(threading.get_ident())
        time.sleep(0.05)  # a thread that is free again would take the next image, too
        return write(*args, **more)

    monkeypatch.setattr(Writer, "write", watched)
    files = [replace(file, relative=file.path.name) for file in files]
    writer.start(["red", "green", "blue"], {file.name: file.relative for file in files})
    records = [record for _, record in segment_files(files, query, segmenter, writer)]
    assert all(isinstance(record, dict) for record in records)
    assert (len(threads) == 1) == (overwrite or "coco" in formats)
    assert writer.written == {file.name for file in files}
    assert sorted(path.name for path in out.glob("*.mask.png")) == [f"{i}.mask.png" for i in range(len(files))]


def test_other_errors_are_not_hidden(
    files: list[ImageFile], segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a mistake in the program")

    monkeypatch.setattr(segmenter, "predict_batch", broken)
    with pytest.raises(RuntimeError, match="a mistake in the program"):
        outcomes(files, segmenter, tmp_path / "out")


def test_a_larger_stride_is_advised_only_where_patches_overlap() -> None:
    assert "--stride" not in memory_saving(SegmenterSettings())
    assert "--stride" in memory_saving(SegmenterSettings(stride=4))
    assert "bf16" not in memory_saving(SegmenterSettings(precision="bf16"))
