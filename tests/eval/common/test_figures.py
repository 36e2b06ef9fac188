import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eval.common.figures as figures
from eval.common.figures import OPACITY, class_bars, confusion_picture, contact_sheet
from pacl.errors import UserError
from pacl.results.render import palette

pytest.importorskip("matplotlib", reason="charts need pacl[eval]")

NAN = float("nan")


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The charts, caught before they become pixels; they are written all the same."""
    caught, save = [], figures._save
    monkeypatch.setattr(figures, "_save", lambda figure, path: (caught.append(figure), save(figure, path)))
    return caught


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


# --- Bars -------------------------------------------------------------------------------------------


def test_bars_are_sorted_by_the_best_method(tmp_path, drawn):
    classes = ["cat", "dog", "cow", "absent", "elk"]
    methods = {"clip": [10, 20, 30, NAN, 5], "pacl": [50, 70, 60, NAN, NAN], "value": [None] * 5}
    class_bars(tmp_path / "bars.png", classes, methods, "voc, costs $5 or $6")
    (figure,) = drawn
    (axes,) = figure.axes
    assert labels(axes.yaxis) == ["dog", "cow", "cat", "elk"]
    assert [bar.get_width() for bar in axes.patches] == [70, 60, 50, 0]
    assert axes.collections[0].get_offsets()[:, 0].tolist() == [20, 30, 10, 5]  # clip's marks
    assert words(figure) == [r"voc, costs \$5 or \$6", "left out: 1 class, neither labelled nor predicted"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pacl: 60.0", "clip: 16.2", "value"]
    top = [label.get_text() for label in axes.child_axes[0].get_yticklabels()]
    assert top == ["70.0", "60.0", "50.0", ""]


def test_bars_grow_with_the_classes(tmp_path):
    sizes = []
    for count in (19, 171):
        path = tmp_path / f"{count}.png"
        class_bars(path, [f"class {i}" for i in range(count)], {"pacl": range(count), "clip": range(count)}, "title")
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] - sizes[0][1] == pytest.approx(0.2 * figures.DPI * (171 - 19), abs=2)


@pytest.mark.filterwarnings("error")
def test_nothing_to_draw_is_still_a_picture(tmp_path):
    class_bars(tmp_path / "bars.png", ["a", "b"], {"clip": [None, None]}, "nothing scored")
    confusion_picture(tmp_path / "confusion.png", ["a", "b"], np.zeros((2, 2), np.int64), "nothing scored")
    assert len(list(tmp_path.iterdir())) == 2


def test_endings_say_the_format_and_nothing_half_is_left(tmp_path):
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG")):
        class_bars(tmp_path / "new" / name, ["a"], {"clip": [1.0]}, "title")
        with Image.open(tmp_path / "new" / name) as image:
            assert image.format == kind
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.jpg", "a.png"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        class_bars(tmp_path / "file" / "a.png", ["a"], {"clip": [1.0]}, "title")


def test_without_matplotlib_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r'pip install "pacl\[eval\]"'):
        class_bars(tmp_path / "bars.png", ["a"], {"clip": [1.0]}, "title")


# --- Confusion --------------------------------------------------------------------------------------


def test_confusion_is_in_percent_of_each_row(tmp_path, drawn):
    confusion = np.array([[6, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 3]])
    confusion_picture(tmp_path / "confusion.png", ["cat", "invented", "absent", "elk"], confusion, "title")
    axes, bar = drawn[0].axes
    assert labels(axes.xaxis) == labels(axes.yaxis) == ["cat", "invented", "elk"]
    shown = np.ma.filled(axes.images[0].get_array().astype(float), NAN)
    np.testing.assert_array_equal(shown, [[75, 25, -1], [NAN, NAN, NAN], [-1, 25, 75]])  # -1: nothing, not a little
    assert {text.get_text() for text in axes.texts} == {"75", "25"}
    remark = "left out: 1 class, neither labelled nor predicted; grey: 1 without a labelled pixel"
    assert " ".join(words(drawn[0])[1:]) == remark
    assert bar.get_ylabel() == "percent of the true class's pixels"


def test_long_names_are_cut_and_many_classes_keep_their_room(tmp_path, drawn):
    confusion = np.random.default_rng(0).integers(0, 9, (171, 171))
    names = ["a name that somebody made far longer than it had to be", *map(str, range(170))]
    confusion_picture(tmp_path / "confusion.png", names, confusion, "title")
    axes = drawn[0].axes[0]
    assert labels(axes.yaxis)[0] == "a name that somebody made far..."
    pixels = axes.get_window_extent()
    assert min(pixels.width, pixels.height) / 171 > 11  # as high as a line of its 6.5 point type at 120 dpi
    assert not axes.texts


# --- Contact sheet ----------------------------------------------------------------------------------

CLASSES = ["background", "cat", "dog", "horse", "a class with a name that is by far too long for a legend"]


def sheet(tmp_path: Path, row: figures.Row) -> np.ndarray:
    contact_sheet(tmp_path / "sheet.png", [row], CLASSES, "title")
    return np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))


def panels(picture: np.ndarray, count: int, width: int = 420, height: int = 210) -> list[np.ndarray]:
    """The panels of a sheet of one row: below title, headings and caption, a line of letters inwards."""
    top = 19 + 2 * 19 + 2 * round(1.6 * 19)
    return [picture[top : top + height, 19 + i * (width + 14) :][:, :width] for i in range(count)]


@pytest.fixture
def row() -> figures.Row:
    """Grey pictures: the left half is cat and the right half background, but for a strip that is ignored."""
    picture = np.full((100, 200, 3), 100, np.uint8)
    target = np.zeros((100, 200), np.int32)
    target[:, :100] = 1
    target[80:] = -1
    swapped = np.where(np.arange(200) < 100, 0, 1)[None].repeat(100, axis=0)
    return "caption", picture, target, {"right": target.clip(0), "swapped": swapped}


def test_truth_and_predictions_share_their_colours(tmp_path, row):
    picture, truth, right, swapped = panels(sheet(tmp_path, row), 4)
    cat = np.rint(0.25 * 100 + 0.75 * palette(5)[2].astype(float))  # ids of the palette start at 1
    nothing = np.rint(100 * (1 - OPACITY / 2)).repeat(3)  # the background hides less of the picture
    upper = slice(5, 160)
    assert (picture == 100).all()
    for panel, (left, other) in ((truth, (cat, nothing)), (right, (cat, nothing)), (swapped, (nothing, cat))):
        assert np.abs(panel[upper, 5:205] - left).max() <= 1
        assert np.abs(panel[upper, 215:415] - other).max() <= 1


def test_ignored_pixels_are_hatched_in_the_truth_only(tmp_path, row):
    _, truth, right, _ = panels(sheet(tmp_path, row), 4)
    below = truth[172:205]
    assert set(np.unique(below)) == {120, 235}
    assert 0.5 < (below == 235).mean() < 0.75
    assert not (truth[:160] == 235).any()
    assert not (right == 235).any()


def test_legend_names_what_is_in_the_row(tmp_path, row, monkeypatch):
    told: list[str] = []
    ellipsis = figures.ellipsis
    monkeypatch.setattr(figures, "ellipsis", lambda text, *rest: (told.append(text), ellipsis(text, *rest))[1])
    caption, picture, target, predictions = row
    predictions = {**predictions, "other": np.full_like(target, 4)}
    sheet(tmp_path, (caption, picture, target, predictions))
    assert told[: -len(CLASSES)] == ["title", "picture", "truth", "right", "swapped", "other", "caption"]
    assert told[-len(CLASSES) :] == ["background", "cat", "ignored", "predicted only:", CLASSES[4]]  # dog, horse: no


def test_a_legend_of_very_many_classes_ends_in_how_many_more(tmp_path, monkeypatch):
    lines: list[str] = []
    write = figures.ImageDraw.ImageDraw.text

    def text(self, at, words, *rest, **more):
        lines.append(words)
        write(self, at, words, *rest, **more)

    monkeypatch.setattr(figures.ImageDraw.ImageDraw, "text", text)
    names = [f"the class number {i}" for i in range(171)]
    target = np.zeros((20, 30), np.int32)
    everything = (np.arange(600) % 171).reshape(20, 30)
    contact_sheet(tmp_path / "a.jpg", [("row", np.zeros((20, 30, 3), np.uint8), target, {"m": everything})], names, "t")
    shown = [line for line in lines if line.startswith("the class")]
    assert 10 < len(shown) < 60
    assert lines[-1] == f"and {171 - len(shown)} more"


def test_panels_keep_their_proportions(tmp_path, row):
    tall = ("tall", np.zeros((400, 100, 3), np.uint8), np.zeros((400, 100), np.int32), {"m": np.zeros((400, 100), int)})
    flat = ("flat", np.zeros((2, 500, 3), np.uint8), np.zeros((2, 500), np.int32), {"m": np.zeros((2, 500), int)})
    contact_sheet(tmp_path / "a.png", [tall, flat], CLASSES, "title")
    assert figures._fit(tall[1], 420).size == (95, 380)
    assert figures._fit(flat[1], 420).size == (420, 2)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 3 * 420 + 2 * 14 + 2 * 19
