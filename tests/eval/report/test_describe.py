"""Names of results say what counts, and not where it lay."""

from __future__ import annotations

from eval.report.describe import DATASETS, Notes, identity, names_of, order, protocol_parts, settings, tower
from tests.eval.results import a_result, classified


def test_folders_are_named_by_their_ends():
    result = a_result(model={"clip": "local-dir:/home/me/runs/mine/clip"}, protocol={"names": "/x/y/n.txt"})
    assert tower(result) == "local-dir:mine/clip"
    assert names_of(result) == "y/n.txt"
    assert "names y/n.txt" in settings(result)


def test_the_head_counts_where_patches_do():
    trained = {"trained": True, "dense": "value"}
    assert tower(a_result(method="pacl", model=trained)) == "bundled, value, trained head"
    assert tower(a_result(method="naclip", model=trained)) == "bundled"
    assert tower(classified(method="pooled", model=trained)) == "bundled"
    assert tower(classified(method="probe patches 4", model=trained)) == "bundled, value, trained head"
    heads = [a_result(method="pacl", model={**trained, "head": head}) for head in ("01", "02")]
    assert identity(heads[0]) != identity(heads[1])


def test_heads_of_the_same_weights_with_other_settings_are_told_apart():
    """The smoothing is no weight, and a figure depends on it; CLIP's pooled embedding does not."""
    heads = [{"trained": True, "dense": "value", "head": "01", "settings": f"{n}" * 16} for n in "ab"]
    for each in (
        *({"method": method} for method in ("pacl", "value")),
        *({"task": "classification", "method": method} for method in ("phi", "mean", "probe patches 4")),
        *({"task": "retrieval", "method": method} for method in ("phi", "pooled then phi")),
    ):
        one, two = (a_result(**each, model=head) for head in heads)
        assert tower(one).endswith("settings aaaaaaaa")
        assert identity(one) != identity(two)
    for method in ("pooled", "probe pooled 4"):
        assert len({tower(classified(method=method, model=head)) for head in heads}) == 1


def test_candidates_of_reranking_are_part_of_the_protocol():
    found = [
        a_result(task="retrieval", dataset="coco", split="test", method="pooled then phi", protocol={"first_stage": k})
        for k in (8, 128)
    ]
    assert identity(found[0]) != identity(found[1])


def test_another_split_is_named():
    assert protocol_parts(a_result()) == ("sclip",)
    assert protocol_parts(a_result(split="train")) == ("sclip", "split train")
    assert protocol_parts(a_result(dataset="mine", split="any")) == ("sclip",)


def test_settings_are_complete():
    assert settings(a_result()) == "protocol sclip, names sclip (size=336)"
    assert settings(classified()) == (
        "protocol zero-shot, names clip (open_clip's), main score top1 (size=336, templates=imagenet)"
    )


def test_notes_are_numbered_once():
    notes = Notes()
    assert notes.mark("a", "", "b") == "[1] [2]"
    assert notes.mark("b", "c") == "[2] [3]"
    assert notes.lines() == ["- [1] a", "- [2] b", "- [3] c"]


def test_data_sets_in_their_order_and_others_by_name():
    assert sorted(["zoo", "ade150", "art", "voc20"], key=order(DATASETS)) == ["voc20", "ade150", "art", "zoo"]


def test_what_a_changeable_name_stands_for_is_told_by_a_digest():
    for name in ("local-dir:/x/a/clip", "hf-hub:org/clip", "timm:vit/random+st:/x/a"):
        one, two = (a_result(model={"clip": name, "checksum": f"{n}" * 16, "tower": f"{n}f" * 8}) for n in "12")
        assert tower(one).endswith(" 1f1f1f1f")
        assert tower(one) != tower(two)
        assert tower(a_result(model={"clip": name, "checksum": "3" * 16})).endswith(" 33333333")  # older results
    fixed = [a_result(model={"clip": "open_clip:ViT-B-16/openai", "checksum": n * 16, "tower": n * 16}) for n in "12"]
    assert {tower(each) for each in fixed} == {"open_clip:ViT-B-16/openai"}
    assert identity(fixed[0]) != identity(fixed[1])
