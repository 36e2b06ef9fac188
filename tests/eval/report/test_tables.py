"""Measured and published figures in one table, none of which looks comparable where it is not."""

from __future__ import annotations

import math

import pytest

from eval.report.published import published_rows
from eval.report.tables import KINDS, table
from tests.eval.results import a_result, classified

IOU, PATCHES, ACCURACY, RECALL = KINDS
OPENAI = {"clip": "open_clip:ViT-B-16/openai"}


def lines(kind, *results) -> list[str]:
    return "\n".join(table(kind, results)).splitlines()


def test_measured_rows_come_first_and_say_so():
    found = lines(
        IOU,
        a_result(),
        a_result(dataset="ade150", split="validation", images=3, full=2000, intervals={"miou": [1.0, 2.04]},
                 scores={"miou": 1.5}),
        a_result(protocol={"names": "plain"}, scores={"miou": 30.0}),
    )  # fmt: skip
    assert found[:4] == [
        "| method | source | image tower | protocol, names | voc20 | ade150 |",
        "| --- | --- | --- | --- | --- | --- |",
        "| sclip | measured | bundled | sclip, names sclip | 41.2 | 1.5 (1.0 to 2.0) [1] |",
        "| sclip | measured | bundled | sclip, names plain | 30.0 [2] | - |",
    ]
    assert "- [1] subset: 3 of 2000 images" in found
    assert "- [2] not sclip as it is; changed: names plain" in found
    assert "| SCLIP | SCLIP | ViT-B/16 | sclip, names sclip | 80.4 | 16.1 |" in found
    origins = [line.split(" | ")[1] for line in found if line.startswith("|")][2:]
    assert origins[:2] == ["measured"] * 2
    assert "measured" not in origins[2:]
    assert len(origins) == 2 + len(published_rows("segmentation"))
    assert any(line.startswith("- SCLIP: Wang") for line in found)


def test_published_rows_have_a_figure_on_what_was_measured():
    assert not any("Talk2DINO" in line for line in lines(IOU, a_result(dataset="voc21")))
    assert [line for line in lines(IOU, a_result(dataset="mine")) if line.startswith("|")][2:] == [
        "| sclip | measured | bundled | sclip, names sclip | 41.2 |"
    ]


def test_names_by_data_set_where_the_protocol_has_several_lists():
    clear = {"name": "clearclip", "names": "clearclip"}
    found = lines(
        IOU,
        a_result(method="clearclip", protocol=clear),
        a_result(method="clearclip", dataset="context59", protocol={**clear, "names": "sclip"}, scores={"miou": 9.0}),
    )
    names = "clearclip, names clearclip (voc20), sclip (context59)"
    assert f"| clearclip | measured | bundled | {names} | 41.2 | 9.0 |" in found
    assert f"| ClearCLIP | ClearCLIP | ViT-B/16 | {names} | 80.9 | 35.9 |" in found


def test_changed_settings_are_another_row():
    found = lines(IOU, a_result(), a_result(protocol={"size": 448, "changed": ["size"]}, scores={"miou": 43.0}))
    assert "| sclip | measured | bundled | sclip, names sclip, size 448 | 43.0 [1] |" in found
    assert "- [1] not sclip as it is; changed: size 448" in found


def test_a_figure_that_compares_with_a_published_one_says_so():
    (note,) = (line for line in lines(IOU, a_result(model=OPENAI)) if line.startswith("- [1]"))
    assert note == "- [1] measured as the published row SCLIP"
    others = lines(IOU, a_result(), a_result(model=OPENAI, images=3), a_result(model=OPENAI, dataset="camvid"))
    assert not any("measured as" in line for line in others)


def test_what_nobody_documented_is_marked_on_both_sides():
    found = lines(IOU, a_result(method="pacl", model={"trained": True, "head": "0123456789abcdef"},
                                protocol={"name": "pacl", "names": "plain"}))  # fmt: skip
    assert "| pacl | measured | bundled, sclip, trained head 01234567 | pacl, names plain | 41.2 [1] |" in found
    assert "| PACL [1] | PACL | ViT-B/16 | undocumented | 72.3 |" in found
    (note,) = (line for line in found if line.startswith("- [1]"))
    assert "the paper states neither" in note
    (tcl,) = (line for line in found if line.startswith("| TCL"))
    assert "| tcl family |" in tcl
    assert any("names and settings of the paper's own" in line for line in found)


def test_patches_stand_beside_the_papers():
    assert table(PATCHES, [a_result()]) == []
    found = lines(PATCHES, a_result(), a_result(scores={"patch_accuracy": 55.0}))
    assert [line.rpartition(" | ")[0] for line in found[:1]] == [
        "| method | source | image tower | protocol, names | voc20"
    ]
    assert "| sclip | measured | bundled | sclip, names sclip | 55.0 | - |" in found
    assert any("| PACL | ViT-L/14 | undocumented | - | 95.3 |" in line for line in found)
    assert sum("| undocumented |" in line for line in found) == 4


def test_accuracy_is_the_one_that_the_literature_gives():
    pets = classified(dataset="oxford_pets", split="test", protocol={"main": "mean_per_class"})
    found = lines(ACCURACY, classified(split="val"), pets, classified(method="probe pooled 4", split="val",
                  protocol={"name": "few-shot", "names": "none", "templates": None}))  # fmt: skip
    assert found[0].endswith("| imagenet | oxford_pets (mean_per_class) |")
    assert "| phi | measured | bundled, sclip | zero-shot, names clip, templates imagenet | 2.0 | 3.0 |" in found
    assert "| probe pooled 4 | measured | bundled | few-shot | 2.0 | - |" in found
    assert any("| open_clip | ViT-B/16 | zero-shot, names clip, templates imagenet | 68.3 | - |" in x for x in found)


def test_probes_of_other_seeds_or_training_images_are_told_apart():
    few = {"name": "few-shot", "names": None, "templates": None, "train_images": 1000, "train_full": 3030, "seeds": [0]}
    changes = ({}, {"train_images": 3030}, {"seeds": [0, 1]}, {})
    probes = [classified(method="probe pooled 1", split="val", protocol={**few, **each}) for each in changes]
    found = lines(ACCURACY, *probes)
    (row,) = (line for line in found if line.startswith("| probe"))
    assert row.endswith("| 2.0 [1]; 2.0 [2]; 2.0 [3]; 2.0 [1] |")
    notes = {line.partition("] ")[0]: line for line in found if line.startswith("- [")}
    assert all(number in notes["- [1"] for number in ("1000", "3030"))
    assert "1000" not in notes["- [2"]
    assert "0/1" in notes["- [3"]


def test_another_precision_is_a_note():
    found = lines(IOU, a_result(), a_result(protocol={"precision": "bf16"}), a_result(protocol={"precision": "fp32"}))
    assert any(line.endswith("| 41.2; 41.2 [1]; 41.2 |") for line in found)
    assert any(line.startswith("- [1]") and "bf16" in line for line in found)


def test_no_official_split_is_a_note():
    said = "all; there is no official split, CLIP's paper measured 5,000 pictures"
    found = lines(ACCURACY, classified(dataset="eurosat", split="all", protocol={"pictures": said}))
    assert f"- [1] eurosat: {said}" in found


def test_recall_is_the_published_mean():
    coco = {"task": "retrieval", "dataset": "coco", "method": "pooled", "full": 5000, "images": 5000}
    protocol = {"name": "retrieval", "names": None}
    scores = {"miou": math.nan, "i2t R@1": 5.0, "t2i R@1": 4.0, "mean recall": 9.0}
    found = lines(RECALL, a_result(**coco, split="test", protocol=protocol, scores=scores),
                  a_result(**coco, split="val2017", protocol=protocol, scores=scores))  # fmt: skip
    assert "| pooled | measured | bundled | retrieval | 4.5 |" in found
    assert "| pooled | measured | bundled | retrieval, split val2017 | 4.5 |" in found
    assert any("| open_clip | ViT-B/16 | retrieval, Karpathy's test part | 42.8 |" in line for line in found)


def test_what_is_no_number_and_what_would_break_the_table():
    found = lines(IOU, a_result(scores={"miou": math.nan}, model={"clip": "a|b"}))
    assert "| sclip | measured | a\\|b | sclip, names sclip | - |" in found


def test_two_lists_of_names_are_two_rows():
    found = lines(IOU, a_result(), a_result(protocol={"names": "plain"}), a_result(protocol={"names": "/x/y/n.txt"}))
    names = [line.split(" | ")[3] for line in found if " | measured | " in line]
    assert names == ["sclip, names sclip", "sclip, names plain", "sclip, names y/n.txt"]


def test_two_figures_in_one_place():
    found = lines(IOU, a_result(), a_result(scores={"miou": 42.0}))
    assert "| sclip | measured | bundled | sclip, names sclip | 41.2; 42.0 |" in found


def retrieved(**changes):
    scores = {"i2t R@1": 5.0, "t2i R@1": 4.0}
    return a_result(task="retrieval", method="phi", scores=scores, **changes)


@pytest.mark.parametrize(("kind", "result"), [(ACCURACY, classified), (IOU, a_result), (RECALL, retrieved)])
def test_other_data_of_ones_own_share_neither_row_nor_column(kind, result):
    data = ("mine 11111111", "mine 22222222", "mine 11111111")
    found = lines(kind, *(result(dataset="custom", protocol={"data": each}) for each in data))
    rows = [line for line in found if " | measured | " in line or line == found[0]]
    header, *cells = ([cell.strip() for cell in row.split("|")[-3:-1]] for row in rows)
    assert header == ["custom mine 11111111", "custom mine 22222222"]
    measured = [[cell != "-" for cell in row] for row in cells]
    assert measured == [[True, False], [False, True]]


@pytest.mark.parametrize("changed", [{"names_sha256": "2" * 16}, {"templates_sha256": "2" * 16}])
def test_files_of_one_name_and_other_content_are_other_rows(changed):
    files = {"names": "/p1/data/classes.txt", "templates": "/p1/data/t.txt"}
    same = {**files, "names_sha256": "1" * 16, "templates_sha256": "1" * 16}

    def rows(protocol):
        found = lines(ACCURACY, classified(protocol=same), classified(protocol=protocol))
        return sum(" | measured | " in line for line in found)

    assert rows({**same, "names": "/p2/data/classes.txt"}) == 1
    assert rows({**same, **changed}) == 2
