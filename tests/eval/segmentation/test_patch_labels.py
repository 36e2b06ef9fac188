import numpy as np
import pytest
import torch

from eval.segmentation.patch_labels import best_of_patches, majorities, majority, patch_counts, upper_bound
from pacl.metrics.segmentation import count_areas, scores
from pacl.models.towers.grid import PatchGrid
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.windows import WindowLayout, plan_layout


def layout(size: tuple[int, int], resized: tuple[int, int]) -> WindowLayout:
    return WindowLayout(size, resized, resized, (0,), (0,))


def blocks(rows: list[list[int]], side: int) -> np.ndarray:
    return np.kron(np.array(rows), np.ones((side, side), int)).astype(np.int32)


# --- Majority ---------------------------------------------------------------------------------------


def test_majority_hand_computed():
    target = np.array(
        [
            [0, 0, 1, 1, 2, 2],
            [0, 1, 1, 1, 2, -1],
            [3, 3, -1, -1, 4, 2],
            [4, 4, -1, 1, 2, 4],
        ],
        np.int32,
    )
    expected = [[0, 1, 2], [3, -1, 2]]  # 3 and 4, then 2 and 4 tie: the smaller
    found = majority(target, (4, 6), PatchGrid(2, 3, 2, 2))
    assert found.tolist() == expected
    assert found.dtype == np.int32


def test_ignored_pixels_vote_and_win_ties():
    target = np.array([[-1, -1, 5, 5], [-1, -1, 5, 0]], np.int32)
    assert majority(target, (2, 4), PatchGrid(1, 1, 2, 2), (0, 0)).tolist() == [[-1]]
    assert majority(target, (2, 4), PatchGrid(1, 1, 2, 2), (0, 1)).tolist() == [[-1]]  # two against two
    assert majority(target, (2, 4), PatchGrid(1, 1, 2, 2), (0, 2)).tolist() == [[5]]


def test_overlapping_patches():
    target = np.array([[0, 0, 0, 1, 1, 1, 1]], np.int32).repeat(4, axis=0)
    # Patches of 4 at columns 0, 1, 2, 3 see 3, 2, 1 and 0 columns of class 0; two against two is the smaller.
    assert majority(target, (4, 7), PatchGrid(1, 4, 4, 1)).tolist() == [[0, 0, 1, 1]]


def test_padding_is_ignored():
    target = np.full((5, 7), 2, np.int32)  # no multiples of 4: the grid covers 8 x 8
    grid = PatchGrid.cover(5, 7, 4, 4)
    assert majority(target, (5, 7), grid).tolist() == [[2, 2], [-1, -1]]  # one row of four; 3 columns of 4
    assert majority(target, (5, 7), PatchGrid(1, 3, 4, 4)).tolist() == [[2, 2, -1]]  # wholly beyond


def test_labels_are_sampled_at_pixel_centres():
    target = np.array([[0, 1, 2]], np.int32).repeat(3, axis=0)
    one = PatchGrid(6, 6, 1, 1)
    assert majority(target, (6, 6), one)[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert majority(target, (2, 2), PatchGrid(2, 2, 1, 1))[0].tolist() == [0, 2]  # centres at 0.75 and 2.25
    assert majority(target, (5, 5), PatchGrid(5, 5, 1, 1))[0].tolist() == [0, 0, 1, 2, 2]  # 0.3 0.9 1.5 2.1 2.7


@pytest.mark.parametrize(("patch", "stride"), [(16, 16), (16, 8), (14, 5)])
def test_majority_equals_a_direct_count(patch, stride):
    rng = np.random.default_rng(0)
    coarse = rng.integers(-1, 6, (9, 11))
    target = coarse.repeat(7, axis=0).repeat(6, axis=1).astype(np.int32)  # 63 x 66
    plan = plan_layout(target.shape, 80, patch=patch, stride=stride, window=48, step=24)
    height, width = plan.resized
    grid = PatchGrid.cover(*plan.window, patch, stride)
    assert len(plan.corners) > 3
    for corner in plan.corners:
        found = majority(target, plan.resized, grid, corner)
        for i in range(grid.h):
            for j in range(grid.w):
                votes = dict.fromkeys(range(-1, 6), 0)
                for y in range(corner[0] + i * stride, corner[0] + i * stride + patch):
                    for x in range(corner[1] + j * stride, corner[1] + j * stride + patch):
                        inside = y < height and x < width
                        label = target[int((y + 0.5) * 63 / height), int((x + 0.5) * 66 / width)] if inside else -1
                        votes[int(label)] += 1
                assert found[i, j] == max(votes, key=votes.__getitem__)


# --- Patch classification ---------------------------------------------------------------------------


def test_patch_counts_hand_computed():
    target = blocks([[0, 1], [2, -1]], 4)
    values = torch.zeros(1, 4, 2, 2)  # four prompts, the first two of which are of class 0
    values[0, 1, 0, 0] = 1  # class 0: right
    values[0, 0, 0, 1] = 1  # class 0 where 1 is
    values[0, 3, 1, 0] = 1  # class 2: right
    values[0, 2, 1, 1] = 1  # not counted
    maps = PatchMaps(values, PatchGrid(2, 2, 4, 4), layout((8, 8), (8, 8)))
    counts = patch_counts(maps, [0, 0, 1, 2], majorities(maps, target))
    assert counts.tolist() == [2, 3]
    assert counts.dtype == np.int64
    assert patch_counts(maps, [0, 0, 1, 2], majorities(maps, target), [-1, 0]).tolist() == [1, 2]
    none = PatchMaps(values[:, :0], maps.grid, maps.layout)
    assert patch_counts(none, [], majorities(maps, target)).tolist() == [0, 3]


def test_patch_counts_of_windows_and_of_their_merger():
    target = blocks([[0, 1, 0, 1]], 4).repeat(2, axis=0)  # 8 x 16
    plan = WindowLayout((8, 16), (8, 16), (8, 8), (0,), (0, 4, 8))
    one_hot = torch.tensor([[[1.0, 0, 1, 0]] * 2, [[0.0, 1, 0, 1]] * 2])  # [N, 2, 4]: right everywhere
    values = torch.stack([one_hot[:, :, x : x + 2] for x in (0, 1, 2)])  # [T, N, 2, 2]
    maps = PatchMaps(values, PatchGrid(2, 2, 4, 4), plan)
    assert patch_counts(maps, [0, 1], majorities(maps, target)).tolist() == [12, 12]  # patches of all windows
    assert patch_counts(maps, [1, 0], majorities(maps, target)).tolist() == [0, 12]
    assert patch_counts(maps.merged(), [0, 1], majorities(maps.merged(), target)).tolist() == [8, 8]
    swapped = blocks([[0, 1, 1, 0]], 4).repeat(2, axis=0)  # of the windows, 4, 2 and 0 patches are right
    assert patch_counts(maps, [0, 1], majorities(maps, swapped)).tolist() == [6, 12]


def test_patch_counts_refuses_what_does_not_fit():
    maps = PatchMaps(torch.zeros(1, 3, 2, 2), PatchGrid(2, 2, 4, 4), layout((8, 8), (8, 8)))
    with pytest.raises(ValueError, match=r"\b2 ids"):
        patch_counts(maps, [0, 1], majorities(maps, np.zeros((8, 8), np.int32)))


# --- Upper bound ------------------------------------------------------------------------------------


def test_upper_bound_is_exact_where_labels_follow_the_grid():
    target = blocks([[0, 1, 2], [2, -1, 0]], 16)
    areas = upper_bound(target, layout((32, 48), (32, 48)), 16, 3)
    assert areas.tolist() == count_areas(target.clip(0), target, 3).tolist()
    assert scores(areas)["miou"] == 1


def test_upper_bound_hand_computed():
    target = np.zeros((4, 8), np.int32)
    target[0, :4] = 1  # a quarter of the first patch: lost
    target[:3, 4:] = 1  # three quarters of the second: it takes all
    assert upper_bound(target, layout((4, 8), (4, 8)), 4, 2).tolist() == [[12, 12], [16, 16], [16, 16]]


def test_ignored_pixels_have_no_vote_in_the_bound():
    target = np.full((4, 4), -1, np.int32)
    target[0, 0] = 3
    target[2:, 2:] = 1
    assert best_of_patches(target, layout((4, 4), (4, 4)), 2).tolist() == [
        [3, 3, -1, -1],
        [3, 3, -1, -1],
        [-1, -1, 1, 1],
        [-1, -1, 1, 1],
    ]
    assert upper_bound(target, layout((4, 4), (4, 4)), 2, 4).tolist() == [[0, 4, 0, 1]] * 3


def test_bound_of_an_image_that_is_no_multiple_of_the_patch():
    # 5 x 10 resized to 10 x 20 in patches of 8: cells end at rows 8 and 10, columns 8, 16 and 20 of the resized image,
    # which are label rows 0-3 and 4, columns 0-3, 4-7 and 8-9.
    target = np.arange(50, dtype=np.int32).reshape(5, 10)
    best = best_of_patches(target, layout((5, 10), (10, 20)), 8)
    assert best[:4, :4].tolist() == [[0] * 4] * 4  # all differ: the smallest
    assert best[:4, 4:8].tolist() == [[4] * 4] * 4
    assert best[4].tolist() == [40] * 4 + [44] * 4 + [48] * 2
    assert best.shape == (5, 10)


def test_patches_smaller_than_pixels_lose_nothing():
    target = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert best_of_patches(target, layout((3, 4), (48, 64)), 8).tolist() == target.tolist()


def test_nothing_with_one_label_a_patch_has_more_pixels_right():
    rng = np.random.default_rng(0)
    target = rng.integers(-1, 4, (37, 53)).astype(np.int32)
    plan = layout((37, 53), (48, 64))
    bound = upper_bound(target, plan, 16, 4)
    rows, columns = (np.arange(37) + 0.5) * 48 / 37 // 16, (np.arange(53) + 0.5) * 64 / 53 // 16
    most = 0
    for i in range(3):
        for j in range(4):
            cell = target[np.ix_(rows == i, columns == j)]
            most += max((cell == c).sum() for c in range(4))
    assert bound[0].sum() == most
    assert bound[1].sum() == bound[2].sum() == (target != -1).sum()


def test_smaller_patches_bound_higher():
    rows, columns = np.ogrid[:120, :160]
    target = ((rows - 60) ** 2 + (columns - 80) ** 2 < 40**2).astype(np.int32)
    found = [
        float(scores(upper_bound(target, layout((120, 160), (240, 320)), patch, 2))["miou"]) for patch in (64, 32, 16)
    ]
    assert found == sorted(found)
    assert 0.7 < found[0] < found[-1] < 1
