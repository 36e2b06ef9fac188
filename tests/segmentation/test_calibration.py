"""What a calibration measures, compared with plain loops on a tiny CLIP; how it is kept, and what it does to scores."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pacl.errors import UserError
from pacl.models.backbone import Backbone
from pacl.models.config import CONFIG, WEIGHTS
from pacl.models.head import shipped_folder
from pacl.models.model import PACL
from pacl.segmentation.background import Background
from pacl.segmentation.calibration import DEVIATIONS, calibrate
from pacl.segmentation.encode import encode_images
from pacl.segmentation.scoring import offsets_of
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import noise
from tests.tiny import trained_head

PHOTOS = [noise(64, 64, 1), noise(32, 96, 2), noise(50, 40, 3)]  # of 16, 12 and 20 patches


def vectors_of(model: PACL, image: np.ndarray, **settings: object) -> np.ndarray:
    """Patch vectors [P, D] of an image, float64."""
    with torch.inference_mode():
        ((encoded,),) = encode_images([model], [image], SegmenterSettings(scales=(1.0,), **settings))  # type: ignore[arg-type]
    return encoded.patches.values[0].flatten(1).T.double().numpy()


# --- what is measured ---------------------------------------------------------------------------------------------


def test_the_centre_is_the_mean_over_photos_of_their_mean_patch_vectors(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    assert model.centre is None
    assert calibrate(model, PHOTOS) is model
    each = [vectors_of(model, photo) for photo in PHOTOS]
    assert len({len(v) for v in each}) == 3
    expected = np.mean([v.mean(0) for v in each], axis=0)
    assert model.centre is not None
    assert model.centre.dtype == torch.float32
    np.testing.assert_allclose(model.centre.numpy(), expected, atol=1e-6)
    assert np.abs(expected - np.concatenate(each).mean(0)).max() > 1e-4, "photos count alike, not patches"


def test_photos_whose_patches_are_all_alike_are_refused_and_change_nothing(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    with torch.no_grad():
        for parameter in model.embedder.parameters():
            parameter.zero_()
        model.embedder.skip.bias.fill_(1)  # type: ignore[operator, union-attr]
    with pytest.raises(ValueError, match="alike"):
        calibrate(model, PHOTOS)
    assert model.centre is None
    assert model.config.presence == 0


def test_a_head_without_contrast_words_is_calibrated_with_generic_ones(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    model.config.contrast = []
    assert calibrate(model, PHOTOS).config.presence > 0


def test_presence_is_three_deviations_of_the_contrast_words_scores(clip: Backbone) -> None:
    """Each photo has the same weight; the variances of the texts are averaged."""
    model = calibrate(PACL.untrained(clip), PHOTOS)
    texts = model.encode_prompts(model.config.contrast).double().numpy()  # [N, D]
    scores = [vectors_of(model, photo) @ texts.T for photo in PHOTOS]  # [P, N] each
    mean = np.mean([s.mean(0) for s in scores], axis=0)
    variance = np.mean([((s - mean) ** 2).mean(0) for s in scores], axis=0)  # [N]
    assert len(texts) > 1
    assert model.config.presence == pytest.approx(DEVIATIONS * np.sqrt(variance.mean()), rel=1e-4)
    assert isinstance(model.config.presence, float)


def test_it_sees_photos_at_the_size_of_training_whatever_the_heads_scales(clip: Backbone) -> None:
    plain, scaled = (calibrate(PACL.untrained(clip, scales=scales), PHOTOS) for scales in ((1.0,), (1.0, 2.0)))
    assert plain.centre is not None
    assert scaled.centre is not None
    assert torch.equal(plain.centre, scaled.centre)
    assert plain.config.presence == scaled.config.presence
    assert scaled.config.scales == [1.0, 2.0]


def test_once_more_is_the_same_and_other_photos_are_not(clip: Backbone) -> None:
    model = calibrate(PACL.untrained(clip), PHOTOS)
    first, presence = model.centre, model.config.presence
    assert first is not None
    assert torch.equal(first, calibrate(model, iter(PHOTOS)).centre)  # type: ignore[arg-type]
    assert model.config.presence == presence
    assert not torch.equal(first, calibrate(model, PHOTOS[:2]).centre)  # type: ignore[arg-type]


def test_an_autocast_around_it_changes_nothing(clip: Backbone) -> None:
    model = calibrate(PACL.untrained(clip), PHOTOS)
    with torch.autocast("cpu", torch.bfloat16):
        other = calibrate(PACL.untrained(clip), PHOTOS)
    assert model.centre is not None
    assert torch.equal(model.centre, other.centre)  # type: ignore[arg-type]
    assert model.config.presence == other.config.presence


def test_without_photos_there_is_nothing_to_measure(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    with pytest.raises(ValueError, match="no photo"):
        calibrate(model, [])
    assert (model.centre, model.config.presence) == (None, 0.0)


def test_on_average_no_text_has_a_score_any_more(clip: Backbone) -> None:
    model = calibrate(PACL.untrained(clip), PHOTOS)
    texts = model.encode_prompts(["a dog", "grass", "x"])
    before, after = [], []
    with torch.inference_mode():
        for (encoded,) in (encode_images([model], [photo], SegmenterSettings())[0] for photo in PHOTOS):
            cosines = encoded.patches.similarity(texts)
            scores = offsets_of(encoded.patches, texts, model).scores(cosines, Background("none"))
            before.append(cosines.values.mean((0, 2, 3)))
            after.append(scores.values.mean((0, 2, 3)))
    assert torch.stack(before).mean(0).abs().min() > 1e-3
    torch.testing.assert_close(torch.stack(after).mean(0), torch.zeros(3), atol=1e-6, rtol=0)


def test_score_maps_stay_cosines(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    maps = []
    for _ in range(2):
        segmenter = Segmenter(model)
        segmenter.set_image(PHOTOS[0])
        maps.append(segmenter.predict(["a dog", "grass"]).score_map("grass"))
        calibrate(model, PHOTOS)
    assert np.array_equal(*maps)


# --- how it is kept -----------------------------------------------------------------------------------------------


def tensors_in(folder: Path) -> set[str]:
    with safe_open(folder / WEIGHTS, "pt") as file:
        return set(file.keys())


def test_a_calibrated_head_comes_back_bit_for_bit(clip: Backbone, tmp_path: Path) -> None:
    model = calibrate(trained_head(clip), PHOTOS)
    model.save_pretrained(tmp_path)
    again = PACL.from_pretrained(tmp_path, clip=clip)
    assert again.config == model.config
    assert again.config.presence > 0
    assert again.centre is not None
    assert model.centre is not None
    assert torch.equal(again.centre, model.centre)
    calibrate(again, PHOTOS).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / WEIGHTS).read_bytes()


def test_a_head_that_is_not_calibrated_has_no_centre(clip: Backbone, tmp_path: Path) -> None:
    model = trained_head(clip)
    model.save_pretrained(tmp_path / "plain")
    assert PACL.from_pretrained(tmp_path / "plain", clip=clip).centre is None
    plain = tensors_in(tmp_path / "plain")
    calibrate(model, PHOTOS).save_pretrained(tmp_path / "calibrated")
    assert tensors_in(tmp_path / "calibrated") - plain == {"centre"}


def test_heads_of_before_calibration_load(clip: Backbone, tmp_path: Path) -> None:
    """Their configuration knows neither presence nor scales nor vocabulary."""
    trained_head(clip).save_pretrained(tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text())
    for name in ("presence", "scales", "vocabulary"):
        del values[name]
    (tmp_path / CONFIG).write_text(json.dumps(values))
    config = PACL.from_pretrained(tmp_path, clip=clip).config
    assert (config.presence, config.scales, config.vocabulary) == (0.0, [1.0], [])


def test_files_that_do_not_go_together_are_one_line(clip: Backbone, tmp_path: Path) -> None:
    """A presence without its centre."""
    model = trained_head(clip)
    model.save_pretrained(tmp_path)
    (tmp_path / CONFIG).write_text(dataclasses.replace(model.config, presence=0.3).to_json())
    with pytest.raises(UserError, match="do not match its configuration"):
        PACL.from_pretrained(tmp_path, clip=clip)


def test_a_calibrated_head_trains_on(clip: Backbone) -> None:
    """The centre is no parameter, is copied with the rest, and takes values like any other tensor of the head."""
    model = calibrate(PACL.untrained(clip, text="linear"), PHOTOS)
    images = model.clip.normalize(torch.from_numpy(noise(32, 40)).permute(2, 0, 1)[None])
    patches, texts = model.encode_patches(images)[0], model.encode_text(["a dog", "a cat"])
    assert model.centre is not None
    (model.phi(patches, texts) - texts @ model.centre).sum().backward()
    assert "centre" not in dict(model.named_parameters())
    assert all(parameter.grad is not None for parameter in model.embedder.parameters())
    other = copy.deepcopy(model)
    assert other.centre is not None
    model.load_head_state({**model.head_state(), "centre": torch.ones_like(model.centre)}, "here")
    assert model.centre.eq(1).all()
    assert not other.centre.eq(1).any()


def test_the_photo_model_is_calibrated() -> None:
    config = json.loads((shipped_folder("photos") / CONFIG).read_text())
    assert config["presence"] > 0
    with safe_open(shipped_folder("photos") / WEIGHTS, "pt") as file:
        assert file.get_tensor("centre").shape == (config["dim"] + config["space"],)


def test_a_head_whose_calibration_was_stopped_between_its_files_is_the_one_before(
    clip: Backbone, tmp_path: Path
) -> None:
    before = PACL.untrained(clip)
    before.save_pretrained(tmp_path / "head")
    config = (tmp_path / "head" / CONFIG).read_bytes()
    calibrate(before, PHOTOS).save_pretrained(tmp_path / "head")
    (tmp_path / "head" / CONFIG).write_bytes(config)
    found = PACL.from_pretrained(tmp_path / "head", clip=clip)
    assert found.centre is None
    assert found.config.presence == 0
