import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from pacl.data.pairs import FilePairs, PackedStrings, Subset, hold_out
from pacl.data.readers import read_coco, read_folders, read_list, read_table
from pacl.errors import UserError
from tests.paths import SHARED

DATA = SHARED / "data"
flickr8k = pytest.mark.skipif(not (DATA / "flickr8k/captions.txt").is_file(), reason="Flickr8k is not there")
coco = pytest.mark.skipif(not (DATA / "coco/annotations").is_dir(), reason="COCO's captions are not there")


@pytest.fixture
def folder(tmp_path):
    """A folder with small pictures a.jpg, b.jpg and sub/c.png, of 1, 2 and 3 grey values."""
    for value, name in enumerate(("a.jpg", "b.jpg", "sub/c.png"), 1):
        draw(tmp_path / name, value)
    return tmp_path


def draw(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(path)


def captions(pairs):
    """Every picture's path from the root, and its captions."""
    root = f"{pairs.root}/"
    return {
        pairs.name(i).removeprefix(root): [caption for caption, _ in pairs.descriptions(i)] for i in range(len(pairs))
    }


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- Tables -------------------------------------------------------------------------------------------------------

TWO = {"a.jpg": ["a cat", "one, two"], "b.jpg": ["a dog"]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param('image,caption\na.jpg,a cat\nb.jpg,a dog\na.jpg,"one, two"\n', TWO, id="commas"),
        pytest.param("image\tcaption\na.jpg\ta cat\na.jpg\tone, two\nb.jpg\ta dog", TWO, id="tabs"),
        pytest.param("image;caption\na.jpg;a cat\nb.jpg;a dog\na.jpg;one, two\n", TWO, id="semicolons"),
        pytest.param("image|caption\na.jpg|a cat\nb.jpg|a dog\na.jpg|one, two\n", TWO, id="bars"),
        pytest.param("a.jpg;one, two\n", {"a.jpg": ["one, two"]}, id="semicolons, commas in the first caption"),
        pytest.param("a.jpg|one, two; three\n", {"a.jpg": ["one, two; three"]}, id="bars, others in the first caption"),
        pytest.param('"one, two",a.jpg\n', {"a.jpg": ["one, two"]}, id="pictures last"),
        pytest.param("FileName,n, Title \na.jpg,1,a cat\n", {"a.jpg": ["a cat"]}, id="names in any case"),
        pytest.param("\ufeffimage,caption\na.jpg,a cat\n", {"a.jpg": ["a cat"]}, id="byte order mark"),
        pytest.param("image,caption\r\na.jpg,a cat\r\n", {"a.jpg": ["a cat"]}, id="CRLF"),
        pytest.param("image,caption\r\na.jpg,\n\n,\na.jpg, \nb.jpg,x\n", {"a.jpg": [], "b.jpg": ["x"]}, id="empty"),
        pytest.param('image\tcaption\na.jpg\t"5" nails\n', {"a.jpg": ['"5" nails']}, id="quotes between tabs"),
        pytest.param('image,caption\na.jpg,"a ""red"" \n cat"\n', {"a.jpg": ['a "red" cat']}, id="quotes, line break"),
        pytest.param(
            "a.jpg#0\ta cat\na.jpg#1\tone, two\nb.jpg#0\ta dog\n",
            TWO,
            id="Flickr's token file",
        ),
        pytest.param(
            "image_name| comment_number| comment\na.jpg| 0| a cat\na.jpg| 1| one, two\nb.jpg| 0| a dog .\n",
            TWO | {"b.jpg": ["a dog ."]},
            id="Flickr30k",
        ),
        pytest.param(
            "a cat\thttps://x.org/p/a.jpg?w=9#top\na dog\thttp://y.org/b.jpg\n",
            {"a.jpg": ["a cat"], "b.jpg": ["a dog"]},
            id="GCC3M",
        ),
        pytest.param("url,caption\nhttps://x.org/a.jpg,a cat\n", {"a.jpg": ["a cat"]}, id="URLs with a header"),
        pytest.param("image,caption\nsub/c.png,a cat\n", {"sub/c.png": ["a cat"]}, id="a folder below"),
        pytest.param("image,caption\na.jpg,x\nC# 5.jpg,y\n", {"a.jpg": ["x"], "C# 5.jpg": ["y"]}, id="# in a name"),
        pytest.param("image,caption\nlost.jpg,x\na.jpg,y\n", {"lost.jpg": ["x"], "a.jpg": ["y"]}, id="the first lost"),
        pytest.param("x,image,caption\n1,a.jpg,Größe \n", {"a.jpg": ["Größe"]}, id="an index, umlauts"),
    ],
)
def test_tables(folder, content, expected):
    found = captions(read_table(write(folder / "table.txt", content)))
    assert found == expected
    assert list(found) == list(expected)  # in the order of the table


def test_columns_by_name(folder):
    table = write(folder / "t.csv", "image,caption,Photo,French\na.jpg,a cat,b.jpg,un chat\n")
    assert captions(read_table(table)) == {"a.jpg": ["a cat"]}
    assert captions(read_table(table, image_column="photo", caption_column="FRENCH")) == {"b.jpg": ["un chat"]}
    assert captions(read_table(table, caption_column="French")) == {"a.jpg": ["un chat"]}


@pytest.mark.parametrize("place", ["", "images", "Images"])
def test_pictures_beside_the_table(tmp_path, place):
    draw(tmp_path / place / "a.png", 9)
    pairs = read_table(write(tmp_path / "t.csv", "image,caption\na.png,a cat\n"))
    assert pairs.root == tmp_path / place
    assert (pairs.image(0) == 9).all()


def test_pictures_elsewhere(folder):
    (folder / "tables").mkdir()
    table = write(folder / "tables" / "t.csv", "image,caption\na.jpg,a cat\nnone.jpg,a dog\n")
    with pytest.raises(UserError, match=r"not beside it \(a\.jpg is not there\); name their folder: --images DIR"):
        read_table(table)
    with pytest.raises(UserError, match="nowhere: no such folder of pictures"):
        read_table(table, images=folder / "nowhere")
    pairs = read_table(table, images=folder)
    assert pairs.image(0).shape == (6, 8, 3)
    with pytest.raises(UserError, match=r"none\.jpg does not exist"):
        pairs.image(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "two columns or more and a row or more"),
        (b"\n\n", "two columns or more and a row or more"),
        (b"a.jpg\nb.jpg\n", "two columns or more"),
        (b"image,caption\n", "has a header and no rows"),
        (b"picture,words\na.jpg,a cat\n", r"cannot tell its columns .*\(picture, words\); name them"),
        (b"image,words\na.jpg,a cat\n", "cannot tell its columns"),
        (b"image,caption\na.jpg,a cat\n\nb.jpg\n", r"line 4: 1 columns, but the first line has 2; .*','"),
        (b'image,caption\na.jpg,"a\ncat"\nb.jpg,one, two\n', r"line 4: 3 columns, but the first line has 2; .*','"),
        (b"image\tcaption\na.jpg\ta\tcat\n", r"line 2: 3 columns, but the first line has 2$"),
        (b'image,caption\na.jpg,"a cat\nb.jpg,a dog\n', "a quotation mark is left open"),
        (
            b"url,caption\nhttp://x/1/a.jpg,cat\nhttp://x/2/a.jpg,dog\n",
            r"x/1/a.jpg and http://x/2/a.jpg both stand for",
        ),
        ("image,caption\na.jpg,Größe\n".encode("latin-1"), "not in UTF-8 .*save it as UTF-8"),
        ("image,caption\na.jpg,Größe\n".encode("utf-16"), "not in UTF-8 .*save it as UTF-8"),
    ],
)
def test_tables_that_are_none(folder, content, message):
    table = write(folder / "table.csv", content)
    with pytest.raises(UserError, match=message) as error:
        read_table(table)
    assert str(error.value).startswith(str(table))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("columns", [{"image_column": "photo"}, {"caption_column": "photo"}])
def test_no_such_column(folder, columns):
    table = write(folder / "t.csv", "image,caption\na.jpg,a cat\n")
    with pytest.raises(UserError, match="has no column 'photo'; its first line is image, caption"):
        read_table(table, **columns)


@pytest.mark.parametrize("read", [read_table, read_coco, read_folders])
def test_no_such_file(tmp_path, read):
    with pytest.raises(UserError, match=r"nowhere: (cannot be read|no such folder)"):
        read(tmp_path / "nowhere")


# --- COCO ---------------------------------------------------------------------------------------------------------


def coco_json(path, images, annotations):
    content = {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [{"image_id": number, "caption": caption} for number, caption in annotations],
    }
    return write(path, json.dumps(content))


def test_coco(folder):
    said = [(7, "a dog"), (3, " a  cat\n"), (7, "\U0001f415"), (7, " "), (3, "lone \ud83d")]
    path = coco_json(folder / "c.json", [(3, "a.jpg"), (7, "b.jpg"), (1, "sub/c.png")], said)
    pairs = read_coco(path)
    assert captions(pairs) == {"a.jpg": ["a cat", "lone \ud83d"], "b.jpg": ["a dog", "\U0001f415"], "sub/c.png": []}
    assert [int(pairs.image(i).max()) for i in range(3)] == [1, 2, 3]


def test_coco_with_a_byte_order_mark(folder):
    path = coco_json(folder / "c.json", [(3, "a.jpg")], [(3, "a cat")])
    write(path, b"\xef\xbb\xbf" + path.read_bytes())
    assert captions(read_coco(path)) == {"a.jpg": ["a cat"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "not captions in COCO's format"),
        ("[" * 100_000, "not captions in COCO's format"),
        ("[]", "not captions in COCO's format"),
        ("", "not captions in COCO's format"),
        ('{"images": []}', "; it lacks annotations"),
        ('{"images": [], "annotations": []}', "has no pictures"),
        ('{"images": [{"id": 1}], "annotations": []}', "; it lacks file_name"),
        ('{"images": [], "annotations": [{"image_id": 9, "caption": "x"}]}', "; it lacks 9"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": null}]}', "COCO"),
        (b'{"images": "\xff"}', "no UTF-8"),
    ],
)
def test_json_that_is_none_of_coco(folder, content, message):
    path = write(folder / "c.json", content)
    with pytest.raises(UserError, match=message) as error:
        read_coco(path)
    assert str(error.value).startswith(str(path))


# --- Folders by class ---------------------------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path):
    """Folders polar_bear, n1 (with one more in it), n2 and a hidden one."""
    for name in ("polar_bear/1.png", "n1/1.png", "n1/images/2.png", "n2/1.png", ".thumbs/1.png"):
        draw(tmp_path / "train" / name)
    write(tmp_path / "train" / "readme.txt", "no picture")
    return tmp_path / "train"


def test_folders_are_classes(classes):
    pairs = read_folders(classes)
    assert captions(pairs) == {
        "n1/1.png": ["a photo of a n1."],
        "n1/images/2.png": ["a photo of a n1."],
        "n2/1.png": ["a photo of a n2."],
        "polar_bear/1.png": ["a photo of a polar bear."],
    }
    assert pairs.descriptions(3) == [("a photo of a polar bear.", ("polar bear",))]


@pytest.mark.parametrize(
    "names",
    [
        "n1\tcrane, bird\nn2\tcrane, hoist\n",
        "# two cranes\n\nn1: crane; bird\nn2 : crane ;hoist;\n",
        "\ufeffn1: crane; bird\nn2: crane; hoist",
    ],
)
def test_folders_with_names(classes, names):
    pairs = read_folders(classes, write(classes.parent / "words.txt", names), template="my {}")
    first, nested, second = (pairs.descriptions(i) for i in range(len(pairs)))  # the bear has no name: left out
    # The word that both share stands for no more than itself.
    assert first == nested == [("my crane", ("crane",)), ("my bird", ("crane", "bird"))]
    assert second == [("my crane", ("crane",)), ("my hoist", ("crane", "hoist"))]


def test_folders_that_do_not_fit(classes, tmp_path):
    names = tmp_path / "words.txt"
    with pytest.raises(UserError, match="cannot be read as class names"):
        read_folders(classes, names)
    with pytest.raises(UserError, match=r"has no folder of pictures that .*words\.txt names"):
        read_folders(classes, write(names, "n9: crane"))
    for line in ("n1 crane", "n1:", "n1: ;"):
        with pytest.raises(UserError, match=f"words.txt line 2: '{line}' is not 'folder: name; other name'"):
            read_folders(classes, write(names, f"n2: crane\n{line}\n"))
    for template in ("a photo", "{} and {}"):
        with pytest.raises(UserError, match=r"a sentence with one {}"):
            read_folders(classes, template=template)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: has no folder of pictures$"):
        read_folders(tmp_path / "empty")


# --- Pairs and their parts ----------------------------------------------------------------------------------------


def some_pairs(numbers, root="root"):
    return FilePairs(Path(root), {f"d{n % 3}/{n}.jpg": [f"{n}.{c}" for c in range(n % 4)] for n in numbers})


def test_nouns_belong_to_their_captions():
    pairs = some_pairs(range(9))
    assert pairs.descriptions(3) == [("3.0", ()), ("3.1", ()), ("3.2", ())]
    pairs.set_nouns([(f"n{c}", "two words") if c.endswith("1") else () for c in pairs.captions])
    for i in range(9):
        expected = [(f"{i}.{c}", (f"n{i}.1", "two words") if c == 1 else ()) for c in range(i % 4)]
        assert pairs.descriptions(i) == expected


def test_known_nouns_and_none_at_all():
    own = {"a.jpg": ["x", "y"], "b.jpg": [], "c.jpg": ["y"]}
    pairs = FilePairs(Path(), own, {"x": ["n"], "y": ["m", "k"]})
    assert [pairs.descriptions(i) for i in range(3)] == [[("x", ("n",)), ("y", ("m", "k"))], [], [("y", ("m", "k"))]]
    silent = FilePairs(Path(), {"a.jpg": [], "b.jpg": []}, {})
    assert [silent.descriptions(i) for i in range(2)] == [[], []]


def test_a_part_is_some_pictures_in_its_order(folder):
    pairs = read_table(write(folder / "t.csv", "image,caption\na.jpg,A\nb.jpg,B\nsub/c.png,C\n"))
    part = Subset(Subset(pairs, [2, 0]), np.array([1, 0]))
    assert len(part) == 2
    assert [part.name(i) for i in range(2)] == [str(folder / "a.jpg"), str(folder / "sub/c.png")]
    assert [part.descriptions(i)[0][0] for i in range(2)] == ["A", "C"]
    assert [int(part.image(i, short_side=4).max()) for i in range(2)] == [1, 3]
    assert len(Subset(pairs, [])) == 0


def names_of(part):
    return [Path(part.name(i)).relative_to(part.name(i).split("/")[0]) for i in range(len(part))]


def test_hold_out_depends_on_the_names_alone():
    numbers = list(range(100))
    kept, held = map(names_of, hold_out(some_pairs(numbers), 17))
    assert (len(kept), len(held)) == (83, 17)
    assert sorted(kept + held) == sorted(names_of(some_pairs(numbers)))
    Random(0).shuffle(numbers)
    moved = FilePairs(Path("moved"), {f"{n}.jpg": ["another caption"] for n in numbers})
    assert {path.name for path in names_of(hold_out(moved, 17)[1])} == {path.name for path in held}
    assert set(names_of(hold_out(some_pairs(numbers, "elsewhere"), 17)[1])) == set(held)
    assert set(names_of(hold_out(some_pairs(numbers), 30)[1])) > set(held)
    assert 3 < sum(int(path.stem) < 50 for path in held) < 14  # from everywhere


@pytest.mark.parametrize("count", [0, 5])
def test_hold_out_none_or_all(count):
    kept, held = hold_out(some_pairs(range(5)), count)
    assert (len(kept), len(held)) == (5 - count, count)


def test_hold_out_of_equal_names_in_several_folders():
    paths = [f"class{k}/{n}.jpg" for k in range(5) for n in range(4)]
    chosen = []
    for seed in range(3):
        Random(seed).shuffle(paths)
        chosen.append(set(names_of(hold_out(FilePairs(Path("root"), {path: ["x"] for path in paths}), 7)[1])))
    assert chosen[0] == chosen[1] == chosen[2]
    assert len(chosen[0]) == 7


# --- Real data ----------------------------------------------------------------------------------------------------


@flickr8k
def test_flickr8k():
    pairs = read_table(DATA / "flickr8k" / "captions.txt")
    assert len(pairs) == 7586
    assert len(pairs.captions) == 37930
    assert np.diff(pairs.first).tolist() == [5] * 7586
    assert pairs.descriptions(0)[0][0].startswith("A child in a pink dress is climbing up")
    assert pairs.image(7585).shape == (224, 224, 3)


@coco
def test_coco_val2017():
    pairs = read_coco(DATA / "coco/annotations/captions_val2017.json", DATA / "coco/images/val2017")
    assert len(pairs) == 5000
    assert len(pairs.captions) == 25014
    assert set(np.diff(pairs.first).tolist()) == {5, 6, 7}
