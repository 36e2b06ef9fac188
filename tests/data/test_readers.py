import json

import numpy as np
import pytest
from PIL import Image

from pacl.data.folders import read_folders
from pacl.data.readers import read_coco, read_json, read_list, read_table
from pacl.errors import ArgumentError, UserError
from tests.paths import SHARED

DATA = SHARED / "data"
flickr8k = pytest.mark.skipif(not (DATA / "flickr8k/captions.txt").is_file(), reason="Flickr8k is not there")
coco = pytest.mark.skipif(not (DATA / "coco/annotations").is_dir(), reason="COCO's captions are not there")


@pytest.fixture
def folder(tmp_path):
    """A folder with small images a.jpg, b.jpg and sub/c.png, of 1, 2 and 3 grey values."""
    for value, name in enumerate(("a.jpg", "b.jpg", "sub/c.png"), 1):
        draw(tmp_path / name, value)
    return tmp_path


def draw(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(path)


def captions(pairs):
    """Every image's path from the root, and its captions."""
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
        pytest.param('"one, two",a.jpg\n', {"a.jpg": ["one, two"]}, id="images last"),
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
        pytest.param(
            "b.jpg#1\tx\nimg#1\ty\nimg#2\tz\na.jpg.1#0\tu\na.jpg.1#1\tv\n",
            {"b.jpg": ["x"], "img#1": ["y"], "img#2": ["z"], "a.jpg.1": ["u", "v"]},
            id="#1 in names",
        ),
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


@pytest.mark.parametrize(
    ("content", "expected", "unused"),
    [
        (",image,caption\n0,a.jpg,a cat\n", {"a.jpg": ["a cat"]}, {"columns (without a name)": 1}),
        ("0,a.jpg,a cat,0.31\n1,b.jpg,a dog,0.2\n", {"a.jpg": ["a cat"], "b.jpg": ["a dog"]}, {"columns (1, 4)": 2}),
        ("a.jpg,train,a cat\nb.jpg,test,a dog\n", {"a.jpg": ["a cat"], "b.jpg": ["a dog"]}, {"columns (2)": 1}),
        ("image,caption_1,caption_2\na.jpg,a cat,nan\nb.jpg,a,b\n", {"a.jpg": ["a cat"], "b.jpg": ["a", "b"]}, {}),
        (
            "image,path,caption\n1,a.jpg,a cat\n2,b.jpg,a dog\n",
            {"a.jpg": ["a cat"], "b.jpg": ["a dog"]},
            {"columns (image)": 1},
        ),
        ("image,path,caption\nhttps://x.org/1,a.jpg,a cat\n", {"a.jpg": ["a cat"]}, {"columns (image)": 1}),
        ("image,path,caption\na.jpg,b.jpg,a cat\n", {"a.jpg": ["a cat"]}, {"columns (path)": 1}),
        ("image,title,description\na.jpg,a cat,a dog\n", {"a.jpg": ["a cat"]}, {"columns (description)": 1}),
        ("image,caption\na.jpg,\"['a cat', 'a dog']\"\n", {"a.jpg": ["a cat", "a dog"]}, {}),
        ("image,caption\na.jpg,nan\nb.jpg,b.jpg\n", {"a.jpg": [], "b.jpg": []}, {}),
        ("Bild;Beschreibung\na.jpg;eine Katze\n", {"a.jpg": ["eine Katze"]}, {}),
        ('{"file_name": "a.jpg", "text": "a cat"}\n', {"a.jpg": ["a cat"]}, {}),
        (
            "url,caption,key,status\nhttp://x/1.jpg,a cat,a,success\nhttp://x/2.jpg,a dog,b,failed_to_download\n",
            {"a.jpg": ["a cat"]},  # img2dataset names files by the key
            {"columns (url)": 1, "rows of failed downloads": 1},
        ),
    ],
)
def test_columns_are_found_and_others_counted(folder, content, expected, unused):
    pairs = read_table(write(folder / "table.csv", content))
    assert captions(pairs) == expected
    assert pairs.unused == unused


@pytest.mark.parametrize("place", ["", "images", "Images"])
def test_images_beside_the_table(tmp_path, place):
    draw(tmp_path / place / "a.png", 9)
    pairs = read_table(write(tmp_path / "t.csv", "image,caption\na.png,a cat\n"))
    assert pairs.root == tmp_path / place
    assert (pairs.image(0) == 9).all()


def test_images_elsewhere(folder):
    (folder / "tables").mkdir()
    table = write(folder / "tables" / "t.csv", "image,caption\na.jpg,a cat\nnone.jpg,a dog\n")
    with pytest.raises(UserError, match=r"a\.jpg"):
        read_table(table)
    with pytest.raises(UserError, match="nowhere"):
        read_table(table, images=folder / "nowhere")
    pairs = read_table(table, images=folder)
    assert pairs.image(0).shape == (6, 8, 3)
    with pytest.raises(UserError, match=r"none\.jpg"):
        pairs.image(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "two columns"),
        (b"\n\n", "two columns"),
        (b"a.jpg\nb.jpg\n", "two columns"),
        (b"image,caption\n", "has a header and no rows"),
        (b"image,words\na.jpg,a cat\n", "image, words"),
        (b"image,words\na.jpg,a cat\n", "table.csv"),
        (b"image,caption\na.jpg,a cat\n\nb.jpg\n", "line 4"),
        (b'image,caption\na.jpg,"a\ncat"\nb.jpg,one, two\n', "line 4"),
        (b"image\tcaption\na.jpg\ta\tcat\n", "line 2"),
        (b'image,caption\na.jpg,"a cat\nb.jpg,a dog\n', "quotation marks"),
        (
            b"url,caption\nhttp://x/1/a.jpg,cat\nhttp://x/2/a.jpg,dog\n",
            "x/1/a.jpg and http://x/2/a.jpg",
        ),
        ("image,caption\na.jpg,Größe\n".encode("latin-1"), "UTF-8"),
        (b"a.jpg,a cat, on a mat\nb.jpg,a dog, in grass\n", "header"),  # commas in captions
        (b"image,caption\na.jpg,3\nb.jpg,4\n", "numbers"),
        (b"image,caption\na.jpg,a cat\n ,a dog\nb.jpg,a cow\n", "row 2 of 3"),
        (b'{"image": "a.jpg", "caption": "a cat"}\n{"caption": "a dog"}\n', "row 2 of 2"),
        (b"a.jpg,a cat\n ,a dog\n", "row 2 of 2"),
        (b"url,caption,key,status\nhttp://x/a.jpg,a cat,a,failed_to_download\n", "downloaded"),
        (b'[{"image": "a.jpg", "caption": "a cat", "caption": "a dog"}]', '"caption" is there twice'),
        (b'{"image": "a.jpg", "caption": "a cat", "caption": "a dog"}', "line 1: .*twice"),
        (b'[{"image": {"bytes": ""}, "caption": "a cat"}]', "images themselves"),
        (b'[{"image": ["a.jpg", "b.jpg"], "caption": "a cat"}]', "records"),
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
    with pytest.raises(UserError, match="'photo'"):
        read_table(table, **columns)


@pytest.mark.parametrize("read", [read_table, read_coco, read_folders])
def test_no_such_file(tmp_path, read):
    with pytest.raises(UserError, match="nowhere"):
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
    assert captions(pairs) == {"a.jpg": ["a cat", "lone \ufffd"], "b.jpg": ["a dog", "\U0001f415"], "sub/c.png": []}
    assert [int(pairs.image(i).max()) for i in range(3)] == [1, 2, 3]


def test_coco_with_a_byte_order_mark(folder):
    path = coco_json(folder / "c.json", [(3, "a.jpg")], [(3, "a cat")])
    write(path, b"\xef\xbb\xbf" + path.read_bytes())
    assert captions(read_coco(path)) == {"a.jpg": ["a cat"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "COCO"),
        ("[" * 100_000, "COCO"),
        ("[]", "COCO"),
        ("", "COCO"),
        ('{"images": []}', "it lacks annotations"),
        ('{"images": [], "annotations": []}', "has no images"),
        ('{"images": [{"id": 1}], "annotations": []}', "it lacks file_name"),
        ('{"images": [], "annotations": [], "images": []}', '"images" is there twice'),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": []}',
            r"id 1 .*\(a\.jpg, b\.jpg\)",
        ),
        ('{"images": [], "annotations": [{"image_id": 9, "caption": "x"}]}', "it lacks 9"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": null}]}', "COCO"),
        (b'{"images": "\xff"}', "UTF-8"),
    ],
)
def test_json_that_is_none_of_coco(folder, content, message):
    path = write(folder / "c.json", content)
    with pytest.raises(UserError, match=message) as error:
        read_coco(path)
    assert str(error.value).startswith(str(path))


# --- Other JSON ---------------------------------------------------------------------------------------------------

RECORD = {"image": "a.jpg", "caption": "a cat"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([RECORD, RECORD | {"caption": ["one", "two"]}], ["a cat", "one", "two"]),
        (RECORD, ["a cat"]),
        ({"data": [RECORD]}, ["a cat"]),
        ({"a.jpg": "a cat"}, ["a cat"]),
        ({"a.jpg": ["a cat", "one"], "b.jpg": None}, ["a cat", "one"]),
        ({"a": {"caption": "a cat", "tags": "cat, mat"}}, ["a cat"]),
        ({"images": [{"filename": "a.jpg", "sentences": [{"raw": "a cat", "tokens": ["a", "cat"]}]}]}, ["a cat"]),
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "a cat"}]},
            ["a cat"],
        ),
    ],
)
def test_other_json(folder, content, expected):
    assert captions(read_json(write(folder / "c.json", json.dumps(content))))["a.jpg"] == expected


def test_an_image_that_is_there_twice_under_its_id_is_one(folder):
    path = coco_json(folder / "c.json", [(1, "a.jpg"), (1, "a.jpg")], [(1, "a cat")])
    assert captions(read_json(path)) == {"a.jpg": ["a cat"]}


def test_an_image_with_captions_twice_is_one_line(folder):
    path = write(folder / "c.json", '{"a.jpg": "a cat", "a.jpg": "a dog"}')
    with pytest.raises(UserError, match=r'"a\.jpg" is there twice'):
        read_json(path)


def test_what_is_not_used_of_karpathys_json_is_counted(folder):
    image = {"filename": "a.jpg", "split": "test", "imgid": 0, "sentences": [{"raw": "a cat"}]}
    pairs = read_json(write(folder / "c.json", json.dumps({"images": [image]})))
    assert (captions(pairs), pairs.unused) == ({"a.jpg": ["a cat"]}, {"columns (split, imgid)": 2})


def test_json_lines_in_a_file_named_json(folder):
    path = write(folder / "c.json", f"{json.dumps(RECORD)}\n{json.dumps(RECORD | {'caption': None})}\n")
    assert captions(read_json(path)) == {"a.jpg": ["a cat"]}


@pytest.mark.parametrize(
    "content",
    [
        {"shapes": [], "imagePath": "a.jpg"},
        {"shapes": []},
        {},
        [],
        3,
        [{"image": "a.jpg", "conversations": [{"value": "hi"}]}],
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": []}]},
    ],
)
def test_json_without_captions_is_one_line(folder, content):
    path = write(folder / "c.json", json.dumps(content))
    with pytest.raises(UserError) as error:
        read_json(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("column", [list, lambda cells: {str(i): cell for i, cell in enumerate(cells)}])
def test_json_by_columns_is_told_from_images(folder, column):
    """As pandas writes it without ``orient``."""
    content = {"image": column(["a.jpg", "b.jpg"]), "caption": column(["a cat", "a dog"])}
    with pytest.raises(UserError, match="orient='records'"):
        read_json(write(folder / "c.json", json.dumps(content)))


# --- Folders by class ---------------------------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path):
    """Folders polar_bear, n1 (with one more in it), n2 and a hidden one."""
    for name in ("polar_bear/1.png", "n1/1.png", "n1/images/2.png", "n2/1.png", ".thumbs/1.png"):
        draw(tmp_path / "train" / name)
    write(tmp_path / "train" / "readme.txt", "no image")
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
    with pytest.raises(UserError, match=r"words\.txt"):
        read_folders(classes, names)
    with pytest.raises(UserError, match=r"words\.txt"):
        read_folders(classes, write(names, "n9: crane"))
    with pytest.raises(UserError, match=r"words\.txt line 2: 'n1' is there twice"):
        read_folders(classes, write(names, "n1: crane\nn1: bird\n"))
    for line in ("n1 crane", "n1:", "n1: ;"):
        with pytest.raises(UserError, match=f"words.txt line 2: '{line}'"):
            read_folders(classes, write(names, f"n2: crane\n{line}\n"))
    for template in ("a photo", "{} and {}"):
        with pytest.raises(ArgumentError) as error:
            read_folders(classes, template=template)
        assert error.value.argument == "template"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        read_folders(tmp_path / "empty")


# --- Lists -------------------------------------------------------------------------------------------------------


def test_a_list_of_names(tmp_path):
    path = tmp_path / "only.txt"
    path.write_text("\ufeffa.jpg\n\n b.jpg \na.jpg\n", encoding="utf-8", newline="\r\n")
    assert read_list(path) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "not a UTF-8 text file"), (b"\n \n", "is empty"), (None, "does not exist")],
)
def test_what_is_no_list_is_one_line(tmp_path, content, message):
    path = tmp_path / "only.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"only.txt .*{message}"):
        read_list(path)


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
