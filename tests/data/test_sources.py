from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pacl.data.pairs import FilePairs
from pacl.data.sources import Source, check_short
from pacl.errors import ArgumentError, UserError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder: six images in images/x, and a table of them with a caption each."""
    monkeypatch.chdir(tmp_path)
    for n in range(6):
        path = Path(f"images/x/{n}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2, 3), n, np.uint8)).save(path)
    Path("t.csv").write_text("image,caption,french\n" + "".join(f"x/{n}.png,caption {n},mot {n}\n" for n in range(6)))
    Path("t.json").write_text('{"images": [{"id": 1, "file_name": "x/1.png"}], "annotations": []}')
    return tmp_path


@pytest.mark.parametrize(
    ("pairs", "kind"),
    [
        ("t.csv", "table"),
        ("t.tsv", "table"),
        ("t.token.txt", "table"),
        ("t.json", "json"),
        ("images", "folders"),
        ("images/", "folders"),
        ("data/{000..331}.tar", "shards"),
        ("data/0.tar.gz", "shards"),
        ("data/*.tar", "shards"),
        ("data/*.tar*", "shards"),
        ("t.jsonl", "table"),
        ("s3://bucket/x", "shards"),
        ("https://x.org/{0..9}.json", "shards"),
    ],
)
def test_the_format_goes_by_the_name(here, pairs, kind):
    assert Source(pairs).kind == kind
    assert Source(pairs, format="json").kind == "json"


def captions(part):
    return [caption for i in range(len(part)) for caption, _ in part.descriptions(i)]


@pytest.mark.parametrize(
    ("source", "first"),
    [
        (Source("t.csv", "images"), "caption 0"),
        (Source("t.csv", "images", caption_column="french"), "mot 0"),
        (Source("images", template="a {}"), "a x"),
        (Source("t.csv", "images", format="table"), "caption 0"),
    ],
)
def test_settings_reach_the_reader(here, source, first):
    pairs = source.read()
    assert captions(pairs)[0] == first
    assert [int(pairs.image(i).max()) for i in range(6)] == list(range(6))


def test_coco_and_names(here):
    assert len(Source("t.json", "images").read()) == 1
    Path("names.txt").write_text("x: cross; ex")
    assert captions(Source("images", names="names.txt").read())[:2] == ["a photo of a cross.", "a photo of a ex."]


def test_shards_are_no_list(here):
    with pytest.raises(UserError, match=r"0\.tar"):
        Source("0.tar").read()


def test_a_split_divides_what_the_list_names(here):
    Path("only.txt").write_text("4.png\n1.png\n0.png\nlost.png\n")
    source = Source("t.csv", "images", only="only.txt", hold_out=1)
    train, val = source.split(source.read())
    assert len(val) == 1
    assert sorted(captions(train) + captions(val)) == ["caption 0", "caption 1", "caption 4"]
    assert captions(train) == sorted(captions(train))  # in the table's order
    assert [count for kind, count in source.read().unused.items() if "lost.png" in kind] == [1]
    everything, nothing = Source("t.csv", "images").split(source.read())
    assert (len(everything), len(nothing)) == (6, 0)


def test_a_name_in_a_list_is_a_path_first_and_a_last_part_only_of_one_image(here):
    for name in ("0.png", "y/1.png", "y/7.png"):
        path = Path("images", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(Path("images/x/0.png").read_bytes())
    Path("t.csv").write_text(Path("t.csv").read_text() + "0.png,top,a\ny/1.png,one,a\ny/7.png,seven,a\n")
    source = Source("t.csv", "images", only="only.txt")
    for listed, chosen in (
        ("0.png\n", ["top"]),
        ("./0.png\nx/0.png\n", ["caption 0", "top"]),
        (f"7.png\n{Path('images/x/1.png').resolve()}\n", ["caption 1", "seven"]),
    ):
        Path("only.txt").write_text(listed)
        assert captions(source.validation(source.read())) == chosen
        assert not any("only.txt" in kind for kind in source.read().unused)
    Path("only.txt").write_text("1.png\n")
    for refused in (source.read, lambda: source.split(Source("t.csv", "images").read())):
        with pytest.raises(UserError, match=r"only\.txt: 1\.png may be x/1\.png or y/1\.png"):
            refused()


def test_a_validation_source_has_what_the_list_names_and_holds_nothing_out(here):
    Path("only.txt").write_text("x/4.png\n1.png\n")
    source = Source("t.csv", "images", only="only.txt")
    assert captions(source.validation(source.read())) == ["caption 1", "caption 4"]
    assert len(Source("t.csv", "images").validation(source.read())) == 6
    for settings in ({"hold_out": 2}, {"weight": 0.5}):
        with pytest.raises(UserError, match=next(iter(settings))):
            Source("t.csv", "images", **settings).validation(source.read())


def test_the_same_images_are_held_out_of_two_sources(here):
    table, folders = Source("t.csv", "images", hold_out=2), Source("images", hold_out=2)
    held = [source.split(source.read())[1] for source in (table, folders)]
    assert [held[0].name(i) for i in range(2)] == [held[1].name(i) for i in range(2)]


def test_splits_that_leave_nothing(here):
    Path("only.txt").write_text("none.png\n")
    with pytest.raises(UserError, match=r"only.txt.*t\.csv"):
        Source("t.csv", "images", only="only.txt").split(Source("t.csv", "images").read())
    for count in (-1, 6, 7, 1.5, float("nan"), float("inf"), 0.95):
        with pytest.raises(ArgumentError, match=f"hold_out {count}"):
            Source("t.csv", "images", hold_out=count).split(Source("t.csv", "images").read())


@pytest.mark.parametrize(
    ("hold_out", "images", "held"),
    [
        (0.1, 2000, 200),
        (0.1, 300, 30),
        (0.1, 150, 20),
        (0.1, 100, 20),
        (0.1, 60, 12),
        (0.1, 2, 1),
        (0, 9, 0),
        (3, 9, 3),
    ],
)
def test_a_share_is_held_out_of_any_number_of_images(hold_out, images, held):
    pairs = FilePairs(Path(), {f"{i}.png": ["x"] for i in range(images)})
    kept, chosen = Source("t.csv", hold_out=hold_out).split(pairs)
    assert (len(kept), len(chosen)) == (images - held, held)


def test_folders_are_read_by_what_is_in_them(here):
    Path("images/x/0.txt").write_text("zero")
    assert captions(Source("images").read()) == ["zero"]
    assert captions(Source("images", format="folders").read()) == ["a photo of a x."] * 6
    Path("images/metadata.csv").write_text("file_name,text,german\nx/1.png,one,eins\n")
    assert captions(Source("images", caption_column="german").read()) == ["eins"]


@pytest.mark.parametrize(
    ("pairs", "setting"),
    [
        ("images", "images"),
        ("images", "caption_column"),
        ("t.csv", "names"),
        ("t.json", "names"),
        ("t.csv", "template"),
        ("t.csv", "size"),
        ("0.tar", "images"),
        ("0.tar", "only"),
        ("0.tar", "hold_out"),
    ],
)
def test_settings_that_do_not_act_are_refused(here, pairs, setting):
    with pytest.raises(ArgumentError) as error:
        Source(pairs, **{setting: "x"}).read()
    assert error.value.argument == setting


@pytest.mark.parametrize(("name", "value"), [("images", "photos"), ("image_column", "a"), ("hold_out", 0.1)])
def test_short_settings_need_pairs(name, value):
    check_short("t.csv", {name: value})
    check_short(None, {"images": None, "hold_out": 0})
    with pytest.raises(ArgumentError) as error:
        check_short(None, {name: value})
    assert error.value.argument == name
