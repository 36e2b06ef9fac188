"""Background rules, the prior and calibration, on a model whose patches and texts are colours."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pacl.errors import ArgumentError, UserError
from pacl.models.towers.grid import PatchGrid
from pacl.prompts import Label
from pacl.segmentation.background import Background, parse_background
from pacl.segmentation.encode import encode_images
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.query import Query, make_query
from pacl.segmentation.scoring import class_maps, class_probabilities, decide, label_pixels, large_enough, offsets_of
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from pacl.segmentation.windows import plan_layout
from tests.colours import COLOURS, ColourModel, noise, picture
from tests.segmentation.red_square import SQUARE, iou_of_red, run

# --- Background ---------------------------------------------------------------------------------------------------


def test_a_single_prompt_competes_with_the_models_words() -> None:
    result = run(SQUARE, ["red"])
    assert result.background == "contrast"
    assert result.index[32, 32] == 1
    assert result.index[2, 2] == 0
    assert 0.15 < result.shares[0] < 0.4
    assert run(SQUARE, "red").shares == result.shares, "one text is a list of one"
    absent = run(SQUARE, ["blue"])
    assert absent.shares == [0.0]
    assert absent.scores == [0.0]


def test_competitors_never_include_the_prompt_itself() -> None:
    result = run(picture(64, 64), ["a grey"])  # "grey" is one of the model's words, and says the same
    assert result.shares == [1.0]
    model = ColourModel()
    model.config.contrast = ["grey"]
    with pytest.raises(ArgumentError):
        run(SQUARE, ["grey"], model)


def test_none_gives_every_pixel_to_a_label() -> None:
    assert run(SQUARE, ["red"], background="none").shares == [1.0]
    assert (run(SQUARE, ["red", "blue"]).index > 0).all()


def test_a_background_prompt_takes_its_pixels() -> None:
    result = run(SQUARE, ["red", "blue"], background="prompt:teal;grey")
    assert result.index[32, 32] == 1
    assert result.index[2, 2] == 0
    with pytest.raises(UserError, match="grey"):
        run(SQUARE, ["red", "grey"], background="prompt:grey")


def test_a_threshold_rejects_the_undecided() -> None:
    # Grey is as far from red as from blue: 0.5 each.
    result = run(SQUARE, ["red", "blue"], background="threshold:0.6")
    assert result.index[32, 32] == 1
    assert result.index[2, 2] == 0
    with pytest.raises(ArgumentError):
        run(SQUARE, ["red", "blue"], background="threshold:0.5")


def test_entropy_rejects_the_undecided() -> None:
    result = run(SQUARE, ["red", "blue", "green"], background="entropy:0.9")
    assert result.index[32, 32] == 1
    assert result.index[2, 2] == 0
    with pytest.raises(ArgumentError):
        run(SQUARE, ["red", "blue", "green"], background="entropy")


def test_the_logit_scale_decides_how_sure_is_sure() -> None:
    sure = run(SQUARE, ["red", "blue"], background="threshold:0.99", logit_scale=100.0)
    unsure = run(SQUARE, ["red", "blue"], background="threshold:0.99", logit_scale=1.0)
    assert sure.shares[0] > 0.1
    assert unsure.shares == [0.0, 0.0]


def test_labels_with_too_small_an_area_give_way_to_the_next_best() -> None:
    """Ten pixels in a row, won 6 : 2 : 1 by the labels and 1 by the background; a tenth of the labels' 9 is 0.9."""
    winners = torch.tensor([1] * 6 + [2] * 2 + [3] + [0])
    probabilities = torch.full((4, 1, 10), 0.1)  # [K, 1, W]
    probabilities[winners, 0, torch.arange(10)] = 0.6
    probabilities[2, 0, 8] = 0.2  # the next best where label 3 wins
    classes = torch.arange(4)

    def kept(min_area: float, first: int = 0) -> list[bool]:
        """The labels that are kept where their ids start at ``first``."""
        return large_enough((winners[None] + first).split(5, dim=1), classes + first, min_area).tolist()

    assert kept(0.1) == [True, True, True, True]  # 1 > 0.9
    assert kept(0.12) == [True, True, True, False]  # 1 < 1.08
    assert kept(2 / 9) == [True, True, False, False]  # the share itself is not enough
    assert kept(0.12, first=1) == [False, True, True, False]  # no background: 1 of 10 < 1.2

    logits = PatchMaps(probabilities.log()[None], PatchGrid(1, 10, 1, 1), plan_layout((1, 10), 1, patch=1, stride=1))
    query = Query((Label("a", ("a",)),) * 3, ("x",) * 4, (0, 1, 2, 3), parse_background("none"))
    large = SegmenterSettings(min_area=0.12)
    assert label_pixels(class_maps(logits, query, SegmenterSettings()))[0].tolist() == [winners.tolist()]
    assert label_pixels(class_maps(logits, query, large))[0].tolist() == [[1] * 6 + [2] * 2 + [2, 0]]
    # Areas are counted before pixels are rejected; what is left of a rejected label must still pass the threshold.
    unsure = replace(query, background=parse_background("threshold:0.3"))
    assert label_pixels(class_maps(logits, unsure, large))[0].tolist() == [[1] * 6 + [2] * 2 + [0, 0]]


def few_pixels(scores: Tensor) -> tuple[PatchMaps, Query]:
    """Maps [K, W] as scores of one row of pixels, and K labels with one prompt each."""
    k, width = scores.shape
    maps = PatchMaps(scores[None, :, None], PatchGrid(1, width, 1, 1), plan_layout((1, width), 1, patch=1, stride=1))
    return maps, Query((Label("a", ("a",)),) * k, ("x",) * k, tuple(range(1, k + 1)), parse_background("none"))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e5, 1e30])
def test_a_label_that_is_dropped_never_wins(scale: float) -> None:
    """Ten pixels, won 7 : 2 : 1 by labels 3, 2 and 1; at large scales the probabilities of the others are 0."""
    scores = torch.tensor([[0.1, 0.2, 0.9]] * 7 + [[0.1, 0.9, 0.2]] * 2 + [[0.9, 0.1, 0.2]]).T
    logits, query = few_pixels(scale * scores)
    found = class_maps(logits, query, SegmenterSettings(min_area=0.1))
    assert label_pixels(found)[0].tolist() == [[3] * 7 + [2] * 2 + [3]]
    found = class_maps(logits, query, SegmenterSettings(min_area=0.1, refine=1, dilations=(1,)), torch.rand(3, 1, 10))
    assert found.kept is not None
    assert found.kept[label_pixels(found)[0].astype(int) - 1].all()


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e-4, 1e5, 1e30])
@pytest.mark.parametrize("labels", [["red", "teal;blue", "green"], ["red", "teal", *(f"{i} red" for i in range(40))]])
@pytest.mark.parametrize("settings", [{}, {"background": "prompt:grey"}, {"min_area": 0.2}], ids=str)
def test_the_logit_scale_does_not_change_which_label_wins(scale: float, labels: list[str], settings: dict) -> None:
    image = noise(50, 60)
    expected, found = (run(image, labels, logit_scale=each, **settings) for each in (50.0, scale))
    assert len(np.unique(expected.index)) > 1
    assert (found.index != expected.index).mean() <= 1e-3  # two scores may differ in their last digit only


def test_query_orders_prompts_and_ids() -> None:
    labels = [Label("cat", ("cat", "kitten")), Label("dog", ("dog",))]
    query = make_query(labels, Background("prompt", ("sky", "wall")), ColourModel().config)
    assert query.prompts == ("sky", "wall", "cat", "kitten", "dog")
    assert query.ids == (0, 0, 1, 1, 2)
    assert query.classes == (0, 1, 2)


# --- the prior --------------------------------------------------------------------------------------


def test_the_prior_adds_phi_to_the_cosines() -> None:
    model = ColourModel()
    image = picture(64, 64, (0, 64, 0, 40))
    settings = SegmenterSettings(precision="fp32")
    with torch.inference_mode():
        ((encoded,),) = encode_images([model], [image], settings)  # type: ignore[list-item]
        texts = model.encode_prompts(["red", "blue"])
        cosines = encoded.patches.similarity(texts)
        scores = offsets_of(encoded.patches, texts, model, 0.5).scores(cosines, Background("none"))  # type: ignore[arg-type]
    phi = model.phi(encoded.patches.values[0].flatten(1).T[None], texts)[0]
    assert phi[0] > phi[1]  # there is red in the image, and no blue
    torch.testing.assert_close(scores.values, cosines.values + 0.5 * phi[:, None, None])


def test_without_a_prior_nothing_changes_and_none_is_the_models_own() -> None:
    model = ColourModel()
    image = picture(64, 64, (0, 64, 0, 40))
    found = {}
    for prior, own in ((0.0, 0.7), (None, 0.0), (None, 0.7), (0.7, 0.0)):
        model.config.prior = own
        segmenter = Segmenter(model, SegmenterSettings(prior=prior))  # type: ignore[arg-type]
        segmenter.set_image(image)
        found[prior, own] = segmenter.predict(["red", "blue", "grey"]).scores
    assert found[0.0, 0.7] == found[None, 0.0] != found[None, 0.7] == found[0.7, 0.0]


@pytest.mark.parametrize("prior", [float("inf"), -float("inf"), float("nan")])
def test_a_prior_is_finite(prior: float) -> None:
    with pytest.raises(ArgumentError):
        SegmenterSettings(prior=prior)


def test_under_a_negative_prior_no_phi_counts_as_less_than_presence() -> None:
    model = calibrated()
    with torch.inference_mode():
        ((encoded,),) = encode_images([model], [SQUARE], SegmenterSettings(precision="fp32"))  # type: ignore[list-item]
        texts = model.encode_prompts(["red", "blue", "grey"])
        cosines = encoded.patches.similarity(texts)
        plain = offsets_of(encoded.patches, texts, model, 0.0).scores(cosines, Background("none")).values  # type: ignore[arg-type]
        phi = model.phi(encoded.patches.values[0].flatten(1).T[None], texts)[0]
    model.config.presence = float(phi[1]) + 0.05
    assert phi[1] < model.config.presence < min(phi[0], phi[2])
    with torch.inference_mode():
        scores = offsets_of(encoded.patches, texts, model, -0.5).scores(cosines, Background("none")).values  # type: ignore[arg-type]
    counted = torch.stack([phi[0], torch.tensor(model.config.presence), phi[2]])
    torch.testing.assert_close(scores, plain - 0.5 * counted[:, None, None])


# --- Calibrated models ----------------------------------------------------------------------------------------------


GREY = 3**-0.5  # cosine of grey with red, green or blue


def calibrated(presence: float = 0.3) -> ColourModel:
    """One to which grey is nothing: a red patch scores 1 - `GREY` for red, a grey one 0."""
    model = ColourModel()
    model.centre = model.encode_prompts(["grey"])[0]  # type: ignore[assignment]
    model.config.presence = presence
    return model


def scored(model: ColourModel, words: Sequence[str], background: Background, prior: float = 0.0, **settings: object):
    """The picture `SQUARE`: what competes at its patches, the cosines, and phi [N]."""
    with torch.inference_mode():
        ((encoded,),) = encode_images([model], [SQUARE], SegmenterSettings(**settings))  # type: ignore[list-item]
        texts = model.encode_prompts(words)
        cosines = encoded.patches.similarity(texts)
        found = offsets_of(encoded.patches, texts, model, prior).scores(cosines, background)  # type: ignore[arg-type]
        vectors = encoded.patches.values.transpose(0, 1).flatten(1).T[None]  # [1, P of all windows, D]
        return found.values, cosines.values, model.phi(vectors, texts)[0]


def test_what_a_text_scores_everywhere_is_subtracted() -> None:
    scores, cosines, _ = scored(calibrated(), ["red", "grey"], Background("none"))
    torch.testing.assert_close(scores[:, 0], cosines[:, 0] - GREY)
    torch.testing.assert_close(scores[:, 1], cosines[:, 1] - 1)
    plain, cosines, _ = scored(ColourModel(), ["red", "grey"], Background("none"))
    assert torch.equal(plain, cosines)
    # Score maps stay cosines.
    assert run(SQUARE, ["red", "grey"], calibrated()).score_map("red").max() == pytest.approx(1)


@pytest.mark.parametrize("settings", [{}, {"window": 40, "accumulate": "pixel"}], ids=str)
@pytest.mark.parametrize("prior", [0.0, 0.7, -0.3])
def test_the_level_is_one_share_of_the_highest_score_at_every_patch(settings: dict, prior: float) -> None:
    model, words = calibrated(), ["blue", "red", "grey"]
    values, cosines, phi = scored(model, words, Background("peak", limit=0.4), prior, **settings)
    without, _, _ = scored(model, words, Background("none"), prior, **settings)
    assert torch.equal(values[:, 1:], without)
    highest = float(cosines[:, 1].max()) - GREY  # red's, without the prior
    assert highest == pytest.approx(1 - GREY, abs=1e-5)
    expected = 0.4 * highest + prior * float(phi[1])
    torch.testing.assert_close(values[:, 0], torch.full_like(values[:, 0], expected))


@pytest.mark.parametrize("prior", [0.0, 9.0, -9.0])
def test_where_nothing_is_present_the_level_is_ahead_of_every_score(prior: float) -> None:
    values, _, _ = scored(calibrated(presence=0.5), ["blue", "red"], Background("peak", limit=0.4), prior)
    assert values[:, 0].min() == values[:, 0].max() > values[:, 1:].max()


def test_peak_marks_the_scores_above_its_share() -> None:
    sizes = []
    for share in (0.3, 0.6, 0.9):
        result = run(SQUARE, ["red"], calibrated(), background=f"peak:{share}")
        assert result.background == f"peak:{share}"
        score = result.score_map("red") - GREY
        sure = abs(score - share * (1 - GREY)) > 1e-4
        assert (result.mask("red") == (score > share * (1 - GREY)))[sure].all()
        sizes.append(result.shares[0])
    assert 0 < sizes[2] < sizes[1] < sizes[0] < 1


@pytest.mark.parametrize(
    "settings", [{}, {"refine": 3}, {"prior": 1.0}, {"window": 40, "accumulate": "pixel"}], ids=str
)
@pytest.mark.parametrize("labels", [["red"], ["red", "blue"], ["red;blue=thing"]], ids=str)
def test_peak_gives_nothing_where_nothing_is_present(labels: list[str], settings: dict) -> None:
    for presence, there in ((0.41, True), (0.43, False)):  # red's highest score is 0.42
        result = run(SQUARE, labels, calibrated(presence), background="peak", **settings)
        assert (result.shares[0] > 0.05) is there
        assert result.index.any() == there


def test_peak_of_several_labels_is_the_highest_of_all() -> None:
    image = picture(64, 64, (0, 64, 0, 24))
    image[:, 40:] = COLOURS["teal"]  # red | grey | teal, for which green and blue score 0.13
    together = run(image, ["red", "blue"], calibrated(0.1), background="peak:0.6")
    assert (together.index[:, :16] == 1).all()
    assert (together.index[:, 28:] == 0).all(), "blue's best is below the share of red's"
    alone = run(image, ["blue"], calibrated(0.1), background="peak:0.6")
    assert (alone.index[:, 48:] == 1).all()
    low = run(image, ["red", "blue"], calibrated(0.1), background="peak:0.2")
    assert (low.index[:, 48:] == 2).all()


def test_synonyms_share_one_peak() -> None:
    image = picture(64, 64, (0, 64, 0, 24))
    image[:, 40:] = COLOURS["blue"]
    apart = run(image, ["red", "blue"], calibrated(), background="peak:0.6")
    both = run(image, ["red;blue=thing"], calibrated(), background="peak:0.6")
    assert np.array_equal(both.mask("thing"), apart.index > 0)
    assert 0.5 < both.shares[0] < 1


def test_a_single_prompts_peak_does_not_depend_on_the_prior() -> None:
    plain, helped, hindered = (
        run(SQUARE, ["red"], calibrated(), background="peak", prior=prior).index for prior in (0.0, 0.7, -0.3)
    )
    assert 0 < plain.sum() < plain.size
    assert (plain != helped).mean() < 1e-3
    assert (plain != hindered).mean() < 1e-3


def test_peak_goes_with_refinement() -> None:
    coarse, refined = (iou_of_red(["red"], calibrated(), background="peak", refine=n) for n in (0, 10))
    assert coarse < 0.9 < refined


def test_auto_is_peak_for_one_label_of_a_calibrated_model() -> None:
    assert run(SQUARE, ["red"], calibrated()).background == "peak:0.6"
    assert run(SQUARE, ["red"]).background == "contrast"
    assert run(SQUARE, ["red", "blue"], calibrated()).background == "none"


def test_peak_of_a_model_that_is_not_calibrated_is_one_line() -> None:
    with pytest.raises(ArgumentError) as error:
        run(SQUARE, ["red", "blue"], background="peak")
    assert "\n" not in str(error.value)


def test_the_channels_of_a_query_begin_with_the_level() -> None:
    labels = [Label("red", ("red", "teal")), Label("blue", ("blue",))]
    query = make_query(labels, Background("peak", limit=0.5), calibrated().config)
    assert (query.prompts, query.ids) == (("red", "teal", "blue"), (1, 1, 2))
    assert (query.channels, query.classes, query.margin) == ((0, 1, 1, 2), (0, 1, 2), 0.0)
    plain = make_query(labels, Background("none"), calibrated().config)
    assert (plain.channels, plain.classes) == ((1, 1, 2), (1, 2))


def test_class_probabilities_take_the_max_after_the_softmax() -> None:
    logits = 10 * torch.rand(5, 2, 3)  # [N, H, W]
    probabilities = class_probabilities(logits, (1, 1, 2, 0, 0))
    softmax = logits.softmax(0)
    torch.testing.assert_close(probabilities, torch.stack([softmax[:2].amax(0), softmax[2], softmax[3:].amax(0)]))


def test_winners_stay_unless_the_background_rule_rejects_them() -> None:
    probabilities = torch.tensor([[0.5, 0.2], [0.3, 0.3], [0.2, 0.5]])  # [K, pixels]
    winners = torch.tensor([1, 3])
    index, confidence = decide(probabilities, winners, Background("contrast"))
    assert index.tolist() == [1, 3]
    assert decide(probabilities, winners, Background("threshold", limit=0.6))[0].tolist() == [0, 0]
    assert confidence.tolist() == [0.5, 0.5]
