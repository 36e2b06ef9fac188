"""Embeddings of images: kept on disk, set again, and refused by another model or other settings."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pacl.errors import ArgumentError, UserError
from pacl.images import save_image
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.segmentation.embedding import ImageEmbedding, _checksum
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import noise
from tests.sams import tiny_sam, tiny_sam2
from tests.tiny import configure_clip, save_tiny_clip, trained_head

LABELS = ["a dog", "grass", "sky"]


@pytest.mark.parametrize(
    "settings", [{}, {"size": 64, "window": 32, "accumulate": "pixel"}, {"refine": 2}, {"scales": (1.0, 2.0)}], ids=str
)
def test_an_embedding_gives_the_same_labels_from_disk(settings: dict, clip: Backbone, tmp_path: Path) -> None:
    model = PACL.untrained(clip)
    first, second = (Segmenter(model, SegmenterSettings(**settings)) for _ in range(2))
    first.set_image(noise(40, 56))
    embedding = first.get_image_embedding()
    embedding.save(tmp_path / "image.safetensors")
    second.set_image_embedding(tmp_path / "image.safetensors")
    expected, found = first.predict(LABELS), second.predict(LABELS)
    assert np.array_equal(found.index, expected.index)
    assert np.array_equal(found.score_map("a dog"), expected.score_map("a dog"))
    assert embedding.size == (40, 56)
    assert embedding.vectors.shape == second.get_image_embedding().vectors.shape
    second.reset_image()
    second.set_image_embedding(embedding)
    assert np.array_equal(second.predict(LABELS).index, expected.index)


def test_what_is_done_to_the_vectors_does_not_change_the_labels(clip: Backbone) -> None:
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(noise(40, 56))
    before = segmenter.predict(LABELS)
    segmenter.get_image_embedding().vectors.zero_()
    assert np.array_equal(segmenter.predict(LABELS).score_map(1), before.score_map(1))


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="all names are Unicode there")
def test_the_path_of_an_image_that_is_not_utf8_is_not_kept(clip: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "bad\udcff.png"
    save_image(path, noise(40, 56))
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(path)
    assert json.dumps(segmenter.predict(LABELS).to_coco(), ensure_ascii=False).encode()
    segmenter.get_image_embedding().save(tmp_path / "image.safetensors")
    assert ImageEmbedding.load(tmp_path / "image.safetensors").encoded.source is None


def test_what_a_sam_keeps_of_an_image_is_part_of_its_embedding(clip: Backbone, tmp_path: Path) -> None:
    pytest.importorskip("transformers", minversion="4.56")
    model = PACL.untrained(clip)
    for name, make in (("sam", tiny_sam), ("sam2", tiny_sam2)):
        make().save_pretrained(tmp_path / name)
    plain, first, second = (
        Segmenter(model, SegmenterSettings(refine=refine))
        for refine in (0, f"sam:{tmp_path / 'sam'}", f"sam:{tmp_path / 'sam2'}")
    )
    for segmenter in (first, second):
        segmenter.set_image(noise(40, 56))
        expected = segmenter.predict(LABELS).index
        segmenter.get_image_embedding().save(tmp_path / "image.safetensors")
        segmenter.reset_image()
        segmenter.set_image_embedding(tmp_path / "image.safetensors")
        assert np.array_equal(segmenter.predict(LABELS).index, expected)
        plain.set_image_embedding(tmp_path / "image.safetensors")  # what is not needed does no harm
    plain.set_image(noise(40, 56))
    for other in (plain, second):
        with pytest.raises(ArgumentError, match="encode the image again") as error:
            first.set_image_embedding(other.get_image_embedding())
        assert error.value.argument == "embedding"


def test_the_image_itself_is_not_kept_but_its_path_is(clip: Backbone, tmp_path: Path) -> None:
    save_image(tmp_path / "image.png", noise(40, 56))
    segmenter = Segmenter(PACL.untrained(clip))
    for image in (tmp_path / "image.png", noise(40, 56)):
        segmenter.set_image(image)
        segmenter.get_image_embedding().save(tmp_path / "image.safetensors")
        segmenter.set_image_embedding(str(tmp_path / "image.safetensors"))
        found = segmenter.predict(LABELS)
        assert found.overlay(noise(40, 56)).size == found.overlay(noise(40, 56), legend=True).size
        if isinstance(image, Path):
            assert np.array_equal(found.overlay(), found.overlay(noise(40, 56)))
        else:
            assert found._repr_png_() is None
            with pytest.raises(ArgumentError) as error:
                found.overlay()
            assert error.value.argument == "image"


@pytest.mark.parametrize(
    "settings",
    [{"stride": 4}, {"size": 48}, {"scales": (1.0, 2.0)}, {"window": 32}, {"interpolation": "bilinear"}, {"refine": 1}],
    ids=str,
)
def test_other_settings_are_refused(settings: dict, clip: Backbone) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model)
    segmenter.set_image(noise(40, 56))
    with pytest.raises(ArgumentError) as error:
        Segmenter(model, SegmenterSettings(**settings)).set_image_embedding(segmenter.get_image_embedding())
    assert error.value.argument == "embedding"


@pytest.mark.parametrize(
    "settings", [{"size": 48}, {"scales": (1.0, 2.0)}, {"refine": 1}, {"refine": 1, "refine_on": "cosines"}], ids=str
)
def test_an_image_that_another_segmenter_encoded_is_refused(settings: dict, clip: Backbone) -> None:
    model = PACL.untrained(clip)
    (image,) = Segmenter(model).encode([noise(40, 56)], ["image"])
    other = Segmenter(model, SegmenterSettings(**settings))
    query = other.prepare(LABELS)
    for use in (other.segment, other.evidence):
        with pytest.raises(ArgumentError) as error:
            use(image, query)
        assert error.value.argument == "image"
    trained = Segmenter(trained_head(clip))
    query = trained.prepare(LABELS)
    with pytest.raises(ArgumentError) as error:
        trained.segment(image, query)
    assert error.value.argument == "image"


def test_segmenters_that_encode_alike_share_images(clip: Backbone) -> None:
    segmenter = Segmenter(PACL.untrained(clip), SegmenterSettings(refine=2))
    (image,) = segmenter.encode([noise(40, 56)], ["image"])
    for other in (
        Segmenter(PACL.untrained(clip), SegmenterSettings(prior=0.3, window_batch=2)),
        Segmenter(segmenter.model, SegmenterSettings(refine=3, templates="photo")),
        copy.deepcopy(segmenter),
    ):
        kept = pickle.loads(pickle.dumps(image))
        expected = other.predict_batch([noise(40, 56)], LABELS)[0].index
        assert np.array_equal(other.segment(kept, other.prepare(LABELS)).index, expected)


def test_settings_of_predict_may_differ(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model, SegmenterSettings(refine=2))
    segmenter.set_image(noise(40, 56))
    other = Segmenter(model, SegmenterSettings(templates="photo", background="contrast", min_area=0.1))
    other.set_image_embedding(segmenter.get_image_embedding())
    assert other.predict(["a dog"]).index.shape == (40, 56)


def test_other_weights_are_refused(clip: Backbone, tmp_path: Path) -> None:
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(noise(40, 56))
    embedding = segmenter.get_image_embedding()
    other_clip = load_backbone(save_tiny_clip(tmp_path / "other", seed=1))
    for model in (trained_head(clip), PACL.untrained(other_clip), PACL.untrained(clip, dense="clearclip")):
        with pytest.raises(ArgumentError) as error:
            Segmenter(model).set_image_embedding(embedding)
        assert error.value.argument == "embedding"


def test_a_clip_without_a_head_knows_its_embeddings_when_it_is_loaded_again(clip: Backbone) -> None:
    first, second, trained = PACL.untrained(clip), PACL.untrained(clip), PACL.untrained(clip)
    segmenter = Segmenter(first)
    segmenter.set_image(noise(40, 56))
    Segmenter(second).set_image_embedding(segmenter.get_image_embedding())
    with torch.no_grad():
        trained.embedder.main[-1].bias[0] = 1e-3  # type: ignore[union-attr,index,operator]
    assert first.head_checksum() == second.head_checksum() != trained.head_checksum()


@pytest.mark.parametrize("change", ["nan", "half", "fewer", "size", "rows"])
def test_an_embedding_that_was_changed_is_refused(change: str, clip: Backbone, tmp_path: Path) -> None:
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(noise(40, 56))
    path = tmp_path / "image.safetensors"
    segmenter.get_image_embedding().save(path)
    with safe_open(path, "pt") as file:
        about, patches = json.loads(file.metadata()["pacl"]), file.get_tensor("patches")
    if change in ("size", "rows"):
        about["layout"] |= {"size": [0, 5]} if change == "size" else {"ys": [8]}
    changed = {"nan": patches * float("nan"), "half": patches.half(), "fewer": patches[..., 1:].contiguous()}
    save_file({"patches": changed.get(change, patches)}, path, metadata={"pacl": json.dumps(about)})
    with pytest.raises(UserError):
        segmenter.set_image_embedding(path)


def test_what_is_no_embedding_is_refused(clip: Backbone, tmp_path: Path) -> None:
    segmenter = Segmenter(PACL.untrained(clip))
    with pytest.raises(RuntimeError):
        segmenter.get_image_embedding()
    (tmp_path / "text").write_text("no tensors")
    model = save_tiny_clip(tmp_path / "clip").removeprefix("local-dir:")
    for path in (tmp_path / "missing", tmp_path / "text", Path(model) / "open_clip_model.safetensors"):
        with pytest.raises(UserError):
            ImageEmbedding.load(path)
    with pytest.raises(ArgumentError) as error:
        segmenter.set_image_embedding(torch.zeros(3))  # type: ignore[arg-type]
    assert error.value.argument == "embedding"


def test_the_repr_holds_no_tensor(clip: Backbone) -> None:
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(noise(40, 56))
    embedding = segmenter.get_image_embedding()
    assert len(repr(embedding)) < 200
    assert "tensor" not in repr(embedding)


def test_the_path_in_a_file_is_that_of_the_file_that_was_read(
    clip: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    save_image(tmp_path / "image.png", noise(40, 56))
    monkeypatch.chdir(tmp_path)
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image("image.png")
    monkeypatch.chdir(tmp_path / "other")
    segmenter.get_image_embedding().save("image.safetensors")
    segmenter.set_image_embedding("image.safetensors")
    segmenter.get_image_embedding().save("again.safetensors")
    for name in ("image", "again"):
        segmenter.set_image_embedding(f"{name}.safetensors")
        found = segmenter.predict(LABELS)
        assert found.source == str(tmp_path / "image.png")
        assert found.overlay().size


def test_another_file_is_not_drawn_on(clip: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = PACL.untrained(clip)
    for folder in ("one", "two"):
        save_image(tmp_path / folder / "image.png", noise(40, 56))
    monkeypatch.chdir(tmp_path / "one")
    segmenter = Segmenter(model)
    segmenter.set_image("image.png")
    segmenter.get_image_embedding().save("image.safetensors")
    monkeypatch.chdir(tmp_path / "two")
    save_image("image.png", noise(40, 56, seed=1))
    later = Segmenter(model)
    later.set_image_embedding(tmp_path / "one/image.safetensors")
    kept, found = segmenter.predict(LABELS), later.predict(LABELS)
    assert np.array_equal(found.overlay(), found.overlay(tmp_path / "one/image.png"))
    assert found.save(tmp_path / "out", formats="mask")["image"] == str(tmp_path / "one/image.png")
    save_image(tmp_path / "one/image.png", noise(40, 56, seed=1)[::-1])
    for each in (kept, found):  # its path is relative and leads to another file; its file was replaced
        assert each._repr_png_() is None
        for draw in (each.overlay, lambda each=each: each.save(tmp_path / "out")):
            with pytest.raises(ArgumentError) as error:
                draw()
            assert error.value.argument == "image"
        assert each.overlay(noise(40, 56)).size
    (tmp_path / "one/image.png").unlink()
    assert found._repr_png_() is None
    with pytest.raises(UserError, match="does not exist"):
        found.overlay()


def test_what_is_missing_is_named_as_the_setting_that_keeps_it(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model)
    segmenter.set_image(noise(40, 56))
    with pytest.raises(ArgumentError, match="without refine") as error:
        Segmenter(model, SegmenterSettings(refine=3)).set_image_embedding(segmenter.get_image_embedding())
    assert "guide" not in str(error.value)
    segmenter = Segmenter(model, SegmenterSettings(refine=3, refine_on="cosines"))
    segmenter.set_image(noise(40, 56))
    Segmenter(model).set_image_embedding(segmenter.get_image_embedding())
    with pytest.raises(ArgumentError, match="refine_on cosines"):
        Segmenter(model, SegmenterSettings(refine=3)).set_image_embedding(segmenter.get_image_embedding())


def test_the_stride_of_the_patch_is_the_default() -> None:
    model = load_model("bundled", device="cpu")
    default, named = (Segmenter(model, SegmenterSettings(stride=stride)) for stride in (None, model.clip.patch))
    default.set_image(noise(64, 64))
    image = default.image
    assert image is not None
    assert named.segment(image, named.prepare(["sky", "sand"])).labels == ["sky", "sand"]
    named.set_image_embedding(default.get_image_embedding())


def test_records_know_the_weights_that_are_now_and_nothing_else(tmp_path: Path) -> None:
    segmenter = Segmenter(load_model("bundled", device="cpu"))
    before = segmenter.about_model["weights"]
    segmenter.model.save_pretrained(tmp_path)  # which notes the checksum of the backbone
    assert segmenter.about_model["weights"] == before
    assert Segmenter(load_model(tmp_path, device="cpu")).about_model["weights"] == before
    segmenter.set_image(noise(64, 64))
    with torch.no_grad():
        next(iter(segmenter.model.embedder.parameters())).add_(0.1)
    assert segmenter.about_model["weights"] != before
    with pytest.raises(ArgumentError) as error:
        segmenter.predict(["sky"])
    assert error.value.argument == "image"


@pytest.mark.parametrize("change", ["smoothing", "quick_gelu", "mean", "layers", "heads"])
def test_what_acts_on_patch_vectors_counts(change: str, tmp_path: Path) -> None:
    """Models of the same weights that compute other vectors refuse each other's images, also from a file."""
    name = save_tiny_clip(tmp_path / "clip")
    segmenter = Segmenter(PACL.untrained(load_backbone(name)))
    (image,) = segmenter.encode([noise(40, 56)], ["image"])
    segmenter.set_image(noise(40, 56))
    segmenter.get_image_embedding().save(tmp_path / "image.safetensors")
    if change == "mean":
        configure_clip(name, preprocess={"mean": [0.1, 0.2, 0.3]})
    if change == "heads":
        configure_clip(name, vision={"head_width": 32})
    loading = {"quick_gelu": {"quick_gelu": True}, "layers": {"layers": [0]}}.get(change, {})
    model = PACL.untrained(load_backbone(name, **loading), smoothing=0.2 if change == "smoothing" else 0.0)
    other = Segmenter(model)
    with pytest.raises(ArgumentError) as error:
        other.set_image_embedding(tmp_path / "image.safetensors")
    assert error.value.argument == "embedding"
    with pytest.raises(ArgumentError) as error:
        other.segment(image, other.prepare(LABELS))
    assert error.value.argument == "image"
    assert segmenter.about_model["weights"] != other.about_model["weights"]


def test_a_setting_of_the_head_that_changes_makes_another_model(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model)
    segmenter.set_image(noise(40, 56))
    for name, acts in (("prior", False), ("smoothing", True)):
        setattr(model.config, name, 0.3)
        if not acts:  # it acts in `predict`
            assert segmenter.predict(LABELS).labels == LABELS
            continue
        with pytest.raises(ArgumentError, match=r"smoothing by default, not 0\.3"):
            segmenter.predict(LABELS)


def test_an_embedding_is_of_the_model_that_encoded_the_image(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model)
    segmenter.set_image(noise(40, 56))
    before = segmenter.get_image_embedding()
    model.config.smoothing = 0.5
    with pytest.raises(ArgumentError) as refused:
        segmenter.get_image_embedding()
    assert refused.value.argument == "image"
    segmenter.set_image(noise(40, 56))
    assert segmenter.get_image_embedding().made_by != before.made_by


def test_a_file_of_an_earlier_version_is_refused(clip: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "image.safetensors"
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(noise(40, 56))
    segmenter.get_image_embedding().save(path)
    with safe_open(path, "pt") as file:
        about, patches = json.loads(file.metadata()["pacl"]), file.get_tensor("patches")
    del about["version"], about["checksum"]
    about["checksum"] = _checksum(about, {"patches": patches})
    save_file({"patches": patches}, path, metadata={"pacl": json.dumps(about)})
    with pytest.raises(UserError, match="another version"):
        segmenter.set_image_embedding(path)


def test_weights_that_are_loaded_into_a_model_count(clip: Backbone, tmp_path: Path) -> None:
    first, second = (load_model(save_tiny_clip(tmp_path / str(seed), seed=seed), device="cpu") for seed in (1, 2))
    segmenter = Segmenter(first)
    segmenter.set_image(noise(40, 56))
    before = segmenter.predict(LABELS).model
    first.clip.load_state_dict(second.clip.state_dict())
    first.load_head_state(second.head_state(), "second")
    for use in (lambda: segmenter.predict(LABELS), segmenter.get_image_embedding):
        with pytest.raises(ArgumentError) as refused:
            use()
        assert refused.value.argument == "image"
    expected = Segmenter(second)
    for each in (segmenter, expected):
        each.set_image(noise(40, 56))
    found = segmenter.predict(LABELS)
    assert np.array_equal(found.score_map("sky"), expected.predict(LABELS).score_map("sky"))
    assert found.model["weights"] == expected.about_model["weights"] != before["weights"]
