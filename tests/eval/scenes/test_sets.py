import itertools

import pytest
import torch

from eval.scenes import sets
from eval.scenes.sets import NAMES, OBJECTS, SceneSet
from pacl.models.towers.grid import PatchGrid
from pacl.scenes.captions import GROUNDS
from tests.scenes.names import HELD_OUT_NAMES

STAR, FISH = NAMES.index("a red star"), NAMES.index("a blue fish")
GRASS, SNOW = NAMES.index("grass"), NAMES.index("snow")
GRID = PatchGrid(2, 2, 4, 4)


def hand_made() -> SceneSet:
    """One scene of 2 x 2 patches of 4 pixels: a star of 10 pixels on grass, not aligned with the patches."""
    labels = torch.full((1, 8, 8), GRASS, dtype=torch.uint8)
    labels[0, :3, :3] = STAR
    labels[0, 0, 4] = STAR
    return SceneSet(
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8), labels, torch.tensor([[GRASS, STAR]]), torch.tensor([STAR])
    )


def test_no_labelling_of_the_patches_beats_the_upper_bound():
    scenes = hand_made()
    bound = sets.bound_majority(scenes, GRID)
    assert bound["objects/own"] == pytest.approx(100 * 9 / 17)  # a patch of 16 pixels and one more; 9 are correct
    best = {"objects": 0.0, "grounds": 0.0}
    for choice in itertools.product((STAR, GRASS), repeat=4):
        painted = torch.tensor(choice).view(1, 2, 2).repeat_interleave(4, 1).repeat_interleave(4, 2)
        got = sets.score(lambda some, _, painted=painted: painted[some], scenes)
        for what in best:
            best[what] = max(best[what], got[f"{what}/own"])
    assert best == pytest.approx({what: bound[f"{what}/own"] for what in best})


def test_scores_count_by_hand():
    scenes = hand_made()
    assert sets.score(lambda some, _: scenes.labels[some].long(), scenes) == {
        f"{what}/{competitors}": 100.0 for what in ("objects", "grounds") for competitors in ("own", "all")
    }
    wrong = scenes.labels.long().clone()
    wrong[0, 7] = FISH  # an absent name takes 8 of 54 pixels of grass; it is not averaged itself
    got = sets.score(lambda some, _: wrong[some], scenes)
    assert got["objects/all"] == 100.0
    assert got["grounds/all"] == pytest.approx(100 * 46 / 54)


def test_own_names_and_all_names():
    maps = torch.zeros(1, len(NAMES), 2, 2)
    maps[0, SNOW] = 3.0  # the best of all, but not in the scene
    maps[0, STAR, 0] = 2.0
    maps[0, GRASS, 1] = 1.0
    present = torch.tensor([[GRASS, STAR]])
    own = sets.label_pixels(maps, present, GRID, (8, 8), "own")
    assert (own[0, :2] == STAR).all()
    assert (own[0, 6:] == GRASS).all()
    assert (sets.label_pixels(maps, present, GRID, (8, 8), "all") == SNOW).all()


def test_patches_of_label_shares_reach_the_higher_bound():
    drawn = SceneSet.render("val", 6, "seen", 96)
    grid = PatchGrid(12, 12, 8, 8)
    shares = torch.stack([sets.label_shares(labels[None], grid)[0] for labels in drawn.labels])
    assert torch.allclose(shares.sum(1), torch.ones(6, 12, 12))
    patches = shares.flatten(2).mT  # [N, P, C]: the names' embeddings are the unit vectors
    got = sets.score_patches(patches, torch.eye(len(NAMES)), drawn, grid)
    assert got == pytest.approx(sets.bound_shares(drawn, grid))
    assert got["objects/own"] > 70


def test_labels_match_the_requested_scenes():
    drawn = SceneSet.render("test", 12, "held_out", 32)
    for labels, present, uppermost in zip(drawn.labels, drawn.present, drawn.uppermost, strict=True):
        assert set(labels.unique().tolist()) <= set(present.tolist())
        assert NAMES[uppermost] in HELD_OUT_NAMES
        assert {NAMES[i] for i in present.tolist()} <= {*HELD_OUT_NAMES, *GROUNDS}
    single = SceneSet.render("test", 5, "seen", 32, objects=1)
    objects = [{i for i in present.tolist() if i in OBJECTS} for present in single.present]
    assert objects == [{i} for i in single.uppermost.tolist()]


def test_validation_and_test_scenes_differ():
    val, test = (SceneSet.render(split, 3, "seen", 32) for split in ("val", "test"))
    assert not torch.equal(val.images, test.images)
