"""Window geometry: every pixel is covered, every rounding stays small."""

import itertools

import pytest

from pacl.segmentation.windows import MAX_ASPECT, WindowLayout, plan_layout, resized_size, snap, window_starts


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((480, 640), 336, (336, 448)),
        ((640, 480), 336, (448, 336)),
        ((375, 500), 336, (336, 448)),
        ((32, 48), 224, (224, 336)),  # upwards as well
        ((1000, 8000), 64, (64, 512)),  # the longest that goes by the short side
        ((1000, 16000), 64, (32, 512)),  # beyond, the long side decides
        ((1, 3000), 64, (16, 512)),  # and no side gets smaller than a patch
        ((3000, 1), 64, (512, 16)),
        ((1, 1), 64, (64, 64)),
    ],
)
def test_resized_size(size: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    assert resized_size(size, short, smallest=16) == expected


@pytest.mark.parametrize(
    ("side", "patch", "stride", "expected"),
    [(224, 16, 16, 224), (231, 16, 16, 224), (232, 16, 16, 240), (5, 16, 16, 16), (225, 16, 4, 224), (226, 16, 4, 228)],
)
def test_snap_goes_to_the_nearest_size_that_patches_fill(side: int, patch: int, stride: int, expected: int) -> None:
    assert snap(side, patch, stride) == expected


@pytest.mark.parametrize(
    ("side", "window", "step", "expected"),
    [
        (448, 224, 112, (0, 112, 224)),
        (450, 224, 112, (0, 112, 224, 226)),  # the last one is shifted inwards
        (224, 224, 112, (0,)),
        (225, 224, 224, (0, 1)),
    ],
)
def test_window_starts(side: int, window: int, step: int, expected: tuple[int, ...]) -> None:
    assert window_starts(side, window, step) == expected


SIZES = [(64, 64), (100, 150), (149, 61), (37, 500), (1, 90), (90, 1), (1, 1), (33, 47)]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("window", "step"), [(None, None), (32, None), (32, 32), (40, 10), (33, 7), (500, None)])
@pytest.mark.parametrize(("patch", "stride"), [(8, 8), (8, 4), (8, 3), (16, 5)])
def test_windows_cover_every_pixel_once_or_more(
    window: int | None, step: int | None, patch: int, stride: int, aligned: bool
) -> None:
    for size, short in itertools.product(SIZES, (16, 60, 64)):
        layout = plan_layout(size, short, patch=patch, stride=stride, window=window, step=step, aligned=aligned)
        assert layout.size == size
        for axis, starts in enumerate((layout.ys, layout.xs)):
            side, crop = layout.resized[axis], layout.window[axis]
            assert (crop - patch) % stride == 0, "patches fill a window without a rest"
            assert starts[0] == 0
            assert starts[-1] + crop == side
            assert all(a < b <= a + crop for a, b in itertools.pairwise(starts)), "no gap between windows"
            if aligned:
                assert (side - patch) % stride == 0
                assert all(start % stride == 0 for start in starts)
                seen = {i for start in starts for i in range(start, start + crop - patch + 1, stride)}
                assert seen == set(range(0, side - patch + 1, stride)), "every patch of the global grid"
            assert abs(side - resized_size(size, short, patch)[axis]) <= stride / 2
        assert len(layout.corners) == len(layout.ys) * len(layout.xs)
        assert max(layout.resized) <= MAX_ASPECT * short + stride


def test_published_protocol_keeps_its_sizes() -> None:
    # Short side 336, crop 224, stride 112, patch 16: nothing is rounded, whatever the long side.
    layout = plan_layout((375, 500), 336, patch=16, stride=16, window=224, step=112)
    assert layout == WindowLayout((375, 500), (336, 448), (224, 224), (0, 112), (0, 112, 224))
    layout = plan_layout((333, 500), 336, patch=16, stride=16, window=224, step=112)
    assert layout.resized == (336, 505)
    assert layout.xs == (0, 112, 224, 281)


def test_a_side_shorter_than_the_window_shortens_it() -> None:
    layout = plan_layout((100, 300), 100, patch=16, stride=16, window=224, step=112)
    assert layout.resized == (96, 300)
    assert layout.window == (96, 224)
    assert layout.ys == (0,)
    assert layout.xs == (0, 76)


def test_a_side_that_one_window_covers_may_be_cut() -> None:
    layout = plan_layout((100, 300), 50, patch=16, stride=16, window=64, step=32, cut=True)
    assert (layout.resized, layout.window) == ((50, 150), (48, 64))  # the long side has windows, which are never cut
    assert (layout.ys, layout.xs) == ((0,), (0, 32, 64, 86))
    whole = plan_layout((50, 75), 50, patch=16, stride=8, cut=True)
    assert (whole.resized, whole.window) == ((50, 75), (48, 72))


def test_whole() -> None:
    layout = plan_layout((100, 300), 200, patch=8, stride=8, window=64, aligned=True)
    assert layout.whole() == WindowLayout((100, 300), (200, 600), (200, 600), (0,), (0,))
