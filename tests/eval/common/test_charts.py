import sys

import numpy as np
import pytest
from PIL import Image

import eval.common.charts as charts
from eval.common.charts import class_bars, confusion_chart
from pacl.errors import UserError

pytest.importorskip("matplotlib", reason="charts need pacl[eval]")

NAN = float("nan")


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The charts that are saved, as matplotlib figures."""
    caught, save = [], charts._save
    monkeypatch.setattr(charts, "_save", lambda figure, path: (caught.append(figure), save(figure, path)))
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
    assert axes.collections[0].get_offsets()[:, 0].tolist() == [20, 30, 10, 5]  # clip's markers
    assert words(figure) == [r"voc, costs \$5 or \$6", "left out: 1 class, neither labelled nor predicted"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pacl: 60.0", "clip: 16.2", "value"]
    top = [label.get_text() for label in axes.child_axes[0].get_yticklabels()]
    assert top == ["70.0", "60.0", "50.0", ""]


def test_classes_that_no_image_shows_are_told_from_those_that_were_missed(tmp_path, drawn):
    methods = {"clip": [10, 0, 0, NAN]}
    class_bars(tmp_path / "bars.png", ["cat", "dog", "cow", "elk"], methods, "voc", [True, True, False, False])
    (figure,) = drawn
    assert labels(figure.axes[0].yaxis) == ["cat", "dog", "cow *"]
    assert words(figure)[1].endswith("; *: in no image, but predicted")


def test_bars_grow_with_the_classes(tmp_path):
    sizes = []
    for count in (19, 171):
        path = tmp_path / f"{count}.png"
        class_bars(path, [f"class {i}" for i in range(count)], {"pacl": range(count), "clip": range(count)}, "title")
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] - sizes[0][1] == pytest.approx(0.2 * charts.DPI * (171 - 19), abs=2)


@pytest.mark.filterwarnings("error")
def test_charts_without_values(tmp_path):
    class_bars(tmp_path / "bars.png", ["a", "b"], {"clip": [None, None]}, "nothing scored")
    confusion_chart(tmp_path / "confusion.png", ["a", "b"], np.zeros((2, 2), np.int64), "nothing scored")
    assert len(list(tmp_path.iterdir())) == 2


def test_the_suffix_decides_the_format(tmp_path):
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG")):
        class_bars(tmp_path / "new" / name, ["a"], {"clip": [1.0]}, "title")
        with Image.open(tmp_path / "new" / name) as image:
            assert image.format == kind
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.jpg", "a.png"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/a\.png"):
        class_bars(tmp_path / "file" / "a.png", ["a"], {"clip": [1.0]}, "title")


def test_without_matplotlib_the_error_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r'pip install "pacl\[eval\]"'):
        class_bars(tmp_path / "bars.png", ["a"], {"clip": [1.0]}, "title")


# --- Confusion --------------------------------------------------------------------------------------


def test_confusion_is_in_percent_of_each_row(tmp_path, drawn):
    confusion = np.array([[6, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 3]])
    confusion_chart(tmp_path / "confusion.png", ["cat", "invented", "absent", "elk"], confusion, "title")
    axes, bar = drawn[0].axes
    assert labels(axes.xaxis) == labels(axes.yaxis) == ["cat", "invented", "elk"]
    shown = np.ma.filled(axes.images[0].get_array().astype(float), NAN)
    np.testing.assert_array_equal(shown, [[75, 25, -1], [NAN, NAN, NAN], [-1, 25, 75]])  # -1: nothing, not a little
    assert {text.get_text() for text in axes.texts} == {"75", "25"}
    remark = "left out: 1 class, neither labelled nor predicted; grey: 1 without a labelled pixel"
    assert " ".join(words(drawn[0])[1:]) == remark
    assert bar.get_ylabel() == "percent of the true class's pixels"


def test_long_names_are_shortened_and_many_classes_stay_readable(tmp_path, drawn):
    confusion = np.random.default_rng(0).integers(0, 9, (171, 171))
    names = ["a name that is far longer than a chart has room for", *map(str, range(170))]
    confusion_chart(tmp_path / "confusion.png", names, confusion, "title")
    axes = drawn[0].axes[0]
    assert labels(axes.yaxis)[0] == "a name that is far longer tha..."
    pixels = axes.get_window_extent()
    assert min(pixels.width, pixels.height) / 171 > 11  # as high as a line of its 6.5 point type at 120 dpi
    assert not axes.texts
