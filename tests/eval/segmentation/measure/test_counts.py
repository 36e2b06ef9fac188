"""Counts of images whose answer is known; several rows share the patches of an image."""

from __future__ import annotations

import numpy as np

from eval.segmentation.measure import Bench, Extras, Row, gather, measure
from pacl.models.backbone import load_backbone
from pacl.models.model import PACL
from pacl.prompts import Label
from tests.colours import ColourModel, picture
from tests.eval.segmentation.measure.benches import BLUE, GREY, PLAIN, RED, a_bench, a_protocol, folder_of
from tests.tiny import trained_head


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


def test_refined_cosines_follow_the_pictures_edges(tmp_path):
    """The edge lies within a patch, at pixel 28 of 64: without refinement it cannot be found."""
    image = picture(64, 64, (0, 64, 0, 28))
    folder = folder_of(tmp_path)

    def wrong(refine: int) -> int:
        protocol = a_protocol(size=64, refine=refine, dilations=(1, 2) if refine else None)
        row = Row("pacl", ColourModel(), protocol, [RED, GREY], False)  # type: ignore[arg-type]
        ((*_, found),) = next(Bench(folder, [row], Extras()).predict([image]))
        return int((found[:, :28] != 0).sum() + (found[:, 28:] != 1).sum())

    assert wrong(10) < wrong(0)


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
