import json
import os

import pytest

from pacl.data.folders import folder_format, read_caption_files, read_folders, read_metadata
from pacl.errors import UserError
from tests.data.conftest import captions

COCO = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "a cat"}]}

# --- Which kind of folder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "files", "kind"),
    [
        (["cat/1.jpg", "dog/1.jpg"], {}, "folders"),
        (["cat/1.jpg"], {"README.txt": "a cat", "cat/notes.txt": "x"}, "folders"),
        (["cat/1.jpg"], {"cat/1.json": '{"shapes": []}'}, "folders"),  # outlines
        (["cat/1.jpg"], {"labels.csv": "image,label\ncat/1.jpg,cat\n"}, "folders"),
        (["1.jpg"], {"1.txt": "a cat"}, "caption_files"),
        (["00000/1.jpg"], {"00000/1.json": '{"caption": "a cat"}', "00000/1.txt": "a cat"}, "caption_files"),
        (["10_dog/1.JPG"], {"10_dog/1.caption": "a dog"}, "caption_files"),
        (["images/x/1.jpg"], {"text/x/1.txt": "a cat"}, "caption_files"),
        (["train/1.jpg"], {"train/metadata.jsonl": ""}, "metadata"),
        ([], {"0.tar": "", "0.parquet": "", "0_stats.json": "{}"}, "shards"),
    ],
)
def test_the_format_of_a_folder(tmp_path, draw, write, images, files, kind):
    draw(*images)
    write(files)
    assert folder_format(tmp_path) == kind


@pytest.mark.parametrize(
    ("images", "files", "message"),
    [
        (["cat/1.jpg"], {"cat/1.txt": "0 0.5 0.5 0.1 0.1\n"}, r"cat/1\.txt"),
        (["1.jpg"], {"0.tar": ""}, "shards"),
        (["cat/1.jpg"], {"captions.csv": "image,caption\ncat/1.jpg,a black cat\n"}, r"captions\.csv"),
        (["Images/1.jpg"], {"captions.txt": "1.jpg#0\ta black cat\n"}, r"captions\.txt"),
        (["train2017/1.jpg"], {"annotations/captions.json": json.dumps(COCO)}, r"captions\.json"),
    ],
)
def test_captions_that_would_be_passed_over_stop_it(tmp_path, draw, write, images, files, message):
    draw(*images)
    write(files)
    with pytest.raises(UserError, match=message):
        folder_format(tmp_path)


# --- Caption files ------------------------------------------------------------------------------------------------


def test_caption_files(tmp_path, draw, write):
    draw("a.jpg", "x/b.PNG", "x/c.jpg", "x/d.jpg", "e.jpg")
    write(
        {
            "a.txt": "a cat\n\nnan\none cat\n",
            "a.json": '{"caption": "not used"}',
            "x/B.caption": "a dog",
            "x/c.jpg.txt": "a cow",
            "x/d.json": '{"captions": ["a hen", "one hen"]}',
            "x/f.txt": "without an image",
            "stats.csv": "",
        }
    )
    pairs = read_caption_files(tmp_path)
    assert captions(pairs) == {
        "a.jpg": ["a cat", "one cat"],
        "e.jpg": [],
        "x/b.PNG": ["a dog"],
        "x/c.jpg": ["a cow"],
        "x/d.jpg": ["a hen", "one hen"],
    }
    assert pairs.unused == {"files that are no images (.json 1, .txt 1, .csv 1)": 3}


@pytest.mark.parametrize(("name", "text"), [("a.txt", "ein Café"), ("a.json", '{"caption": "ein Café"}')])
def test_captions_in_another_encoding_are_refused(tmp_path, draw, name, text):
    draw("a.jpg")
    for encoding in ("latin-1", "utf-16-le"):  # the latter without a mark
        (tmp_path / name).write_bytes(text.encode(encoding))
        with pytest.raises(UserError, match=f"{name}.*UTF-8"):
            read_caption_files(tmp_path)
    (tmp_path / name).write_bytes(text.encode())
    assert captions(read_caption_files(tmp_path)) == {"a.jpg": ["ein Café"]}


def test_files_that_an_image_has_beside_its_captions_are_counted(tmp_path, draw, write):
    """As of tags beside sentences: only one of them trains."""
    draw("a.jpg", "b.jpg", "c.jpg")
    write({"a.txt": "a cat", "a.caption": "cat, mat", "b.txt": "a dog", "b.caption": "dog", "c.txt": "nan"})
    write({"c.caption": "a cow"})
    pairs = read_caption_files(tmp_path)
    assert captions(pairs) == {"a.jpg": ["a cat"], "b.jpg": ["a dog"], "c.jpg": ["a cow"]}
    assert pairs.unused == {"files that are no images (.caption 2)": 2}


def test_caption_files_in_folders_of_their_own(tmp_path, draw, write):
    draw("images/x/1.jpg", "images/2.jpg")
    write({"text/x/1.txt": "a cat", "text/2.txt": "a dog", "text/1.txt": "of no image"})
    pairs = read_caption_files(tmp_path)
    assert captions(pairs) == {"images/2.jpg": ["a dog"], "images/x/1.jpg": ["a cat"]}
    assert list(pairs.unused.values()) == [1]


@pytest.mark.parametrize(
    ("images", "files"),
    [
        (["train/0.jpg", "val/0.jpg"], ["train_captions/0.txt", "val_captions/0.txt"]),
        (["train/0.jpg", "val/1.jpg"], ["train_captions/0.txt", "val_captions/0.txt"]),
        (["train/0.jpg", "val/0.jpg"], ["captions/0.txt"]),
        (["images/x/0.jpg", "masks/x/0.png"], ["captions/x/0.txt"]),
    ],
)
def test_captions_apart_that_may_be_of_other_images_are_refused(tmp_path, draw, write, images, files):
    draw(*images)
    write({name: f"a dog of {name.partition('/')[0]}" for name in files})
    assert folder_format(tmp_path) == "caption_files"
    with pytest.raises(UserError, match=files[0]) as error:
        read_caption_files(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(error.value)


def test_two_folders_of_texts_of_the_same_images_are_both_named(tmp_path, draw, write):
    draw("images/0.jpg", "images/1.jpg")
    write({f"{folder}/{i}.txt": "a dog" for folder in ("captions", "tags") for i in range(2)})
    with pytest.raises(UserError, match=r"captions/0.txt and tags/0.txt .*move") as error:
        read_caption_files(tmp_path)
    assert "same folders" not in str(error.value)


@pytest.mark.parametrize("folder", ["", "x/", "text/"], ids=["beside", "below", "apart"])
def test_captions_of_two_images_are_refused(tmp_path, draw, write, folder):
    images = ["images/a.jpg", "images/a.png"] if folder == "text/" else [f"{folder}a.jpg", f"{folder}a.png"]
    draw(*images, images[0].replace("a.jpg", "b.jpg"))
    write({f"{folder}a.txt": "a cat", f"{folder}b.txt": "a dog"})
    with pytest.raises(UserError, match=rf"{folder}a\.txt may be captions of {images[0]} and of {images[1]}"):
        read_caption_files(tmp_path)
    (tmp_path / images[1]).unlink()
    assert captions(read_caption_files(tmp_path))[images[0]] == ["a cat"]


def test_each_of_two_images_of_a_name_may_have_its_own_captions(tmp_path, draw, write):
    draw("a.jpg", "a.png")
    write({"a.jpg.txt": "a cat", "a.png.txt": "a dog"})
    assert captions(read_caption_files(tmp_path)) == {"a.jpg": ["a cat"], "a.png": ["a dog"]}


def on_a_disk_that_tells_cases_apart(folder):
    """Skip the test elsewhere."""
    (folder / "case").touch()
    if (folder / "CASE").exists():
        pytest.skip("the file system takes names in any case for the same")
    (folder / "case").unlink()


@pytest.mark.parametrize("below", [("", ""), ("images/", "text/")])
def test_images_whose_names_differ_in_their_case_have_captions_of_their_own(tmp_path, draw, write, below):
    on_a_disk_that_tells_cases_apart(tmp_path)
    photos, texts = below
    draw(f"{photos}IMG_1.jpg", f"{photos}img_1.jpg", f"{photos}IMG_2.JPG", f"{photos}a.jpg", f"{photos}A.jpg")
    write({f"{texts}{name}.txt": name for name in ("IMG_1 red", "x")})
    write({f"{texts}IMG_1.txt": "a red dog", f"{texts}img_1.txt": "a blue boat", f"{texts}img_2.txt": "a cow"})
    write({f"{texts}a.txt": "an ant"})
    found = captions(read_caption_files(tmp_path))
    assert {name.removeprefix(photos): own for name, own in found.items()} == {
        "IMG_1.jpg": ["a red dog"],
        "img_1.jpg": ["a blue boat"],
        "IMG_2.JPG": ["a cow"],
        "a.jpg": ["an ant"],
        "A.jpg": [],
    }


def test_caption_files_whose_names_differ_in_their_case_are_counted(tmp_path, draw, write):
    on_a_disk_that_tells_cases_apart(tmp_path)
    draw("a.jpg", "b.jpg")
    write({"a.txt": "a cat", "A.txt": "another", "b.txt": "a dog", "b.TXT": "another"})
    pairs = read_caption_files(tmp_path)
    assert captions(pairs) == {"a.jpg": ["a cat"], "b.jpg": ["a dog"]}
    assert pairs.unused == {"files that are no images (.txt 1, .TXT 1)": 2}


# --- Hugging Face's imagefolder -----------------------------------------------------------------------------------


def test_metadata_of_one_image_in_two_tables(tmp_path, draw, write):
    draw("a.jpg", "train/1.jpg")
    rows = f"../a.jpg,a dog\n{tmp_path / 'train' / '1.jpg'},a hat\n"
    write({"metadata.csv": "file_name,text\na.jpg,a cat\n", "train/metadata.csv": f"file_name,text\n{rows}"})
    pairs = read_metadata(tmp_path)
    assert [os.path.normpath(pairs.name(i)) for i in range(len(pairs))] == [
        str(tmp_path / "a.jpg"),
        str(tmp_path / "train" / "1.jpg"),
    ]
    assert captions(pairs)["a.jpg"] == ["a cat", "a dog"]
    assert pairs.unused == {}


def test_two_tables_of_one_folder_are_refused(tmp_path, draw, write):
    draw("train/1.jpg")
    rows = {"csv": "file_name,text\n1.jpg,a cat\n", "jsonl": '{"file_name": "1.jpg", "text": "a dog"}\n'}
    write({f"train/metadata.{suffix}": text for suffix, text in rows.items()})
    with pytest.raises(UserError, match=r"train: has metadata\.csv and metadata\.jsonl"):
        read_metadata(tmp_path)


def test_metadata_in_folders_below(tmp_path, draw, write):
    draw("train/1.jpg", "train/x/2.jpg", "train/3.jpg", "test/1.jpg")
    write(
        {
            "train/metadata.jsonl": '{"file_name": "1.jpg", "text": "a cat"}\n'
            '{"file_name": "x/2.jpg", "text": ["b", "c"]}',
            "test/metadata.csv": "file_name,text,id\n1.jpg,a dog,7\n",
        }
    )
    pairs = read_metadata(tmp_path)
    assert captions(pairs) == {"test/1.jpg": ["a dog"], "train/1.jpg": ["a cat"], "train/x/2.jpg": ["b", "c"]}
    assert pairs.unused == {"columns (id)": 1, "images without a row in the metadata": 1}
    assert pairs.image(1).max() == 1


# --- Folders by class ---------------------------------------------------------------------------------------------


def test_what_is_outside_the_classes_is_counted(tmp_path, draw, write):
    draw("1.jpg", "2.jpg", "beach/1.jpg", "hill/1.jpg", ".thumbs/1.jpg")
    write({"sea/1.heic": "", "words.txt": "beach: beach\n"})
    pairs = read_folders(tmp_path)
    assert len(pairs) == 2
    assert pairs.unused == {
        "images outside the class folders": 2,
        "folders without images": 1,
        "files that are no images (.txt 1, .heic 1)": 2,
    }
    named = read_folders(tmp_path, tmp_path / "words.txt")
    assert (len(named), named.unused[f"images in folders that {tmp_path}/words.txt does not list"]) == (1, 1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["train/cat/1.jpg", "val/cat/1.jpg"], "train"),  # splits
        (["images/1.jpg"], "images"),
        (["JPEGImages/1.jpg", "SegmentationClass/1.png"], "JPEGImages"),  # images and masks
        (["00000/1.jpg", "00001/2.jpg"], "00000"),
        (["n02123045/1.jpg"], "n02123045"),
        (["wrapped/cat/1.jpg", "wrapped/dog/1.jpg"], "wrapped"),
        (["animals/cat/1.jpg", "animals/dog/1.jpg", "sea/1.jpg"], "animals"),
        (["1.jpg"], "caption files"),
    ],
)
def test_folders_that_are_no_classes(tmp_path, draw, write, images, message):
    draw(*images)
    with pytest.raises(UserError, match=message) as error:
        read_folders(tmp_path)
    assert "\n" not in str(error.value)
    if "/" in images[0]:
        first = images[0].partition("/")[0]
        write({"names.txt": f"{first}: cat\n"})  # names say that they are
        assert captions(read_folders(tmp_path, tmp_path / "names.txt"))[images[0]] == ["a photo of a cat."]


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["001.Black_Bird", "002.Red_Bird"], ["Black Bird", "Red Bird"]),
        (["10_cat", "5_dog"], ["cat", "dog"]),
        (["n01440764_tench"], ["tench"]),
        (["3_wheeler", "car"], ["3 wheeler", "car"]),
        (["train", "car"], ["car", "train"]),
    ],
)
def test_numbers_before_class_names(tmp_path, draw, folders, names):
    draw(*(f"{folder}/1.jpg" for folder in folders))
    found = [caption for own in captions(read_folders(tmp_path)).values() for caption in own]
    assert sorted(found) == sorted(f"a photo of a {name}." for name in names)


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path, draw):
    draw("data/cat/1.jpg", "elsewhere/1.jpg")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data" / "cat" / "up").symlink_to(tmp_path / "data", target_is_directory=True)
    assert list(captions(read_folders(tmp_path / "data"))) == ["cat/1.jpg", "dog/1.jpg"]


def test_class_folders_whose_names_are_not_utf_8_have_captions_that_are_text(tmp_path, draw):
    draw("cat/1.jpg")
    (tmp_path / "cat").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    pairs = read_folders(tmp_path)
    (caption,) = (caption for own in captions(pairs).values() for caption in own)
    assert caption.encode() == "a photo of a caf\ufffd.".encode()
    assert os.path.isfile(pairs.name(0))


@pytest.mark.parametrize("folder", ["names", "a_names", "set names", "dog"])
def test_advice_puts_no_flag_into_the_name_of_a_class(tmp_path, draw, folder):
    draw(f"{folder}/x/1.jpg", f"{folder}/y/1.jpg")
    with pytest.raises(UserError) as error:
        read_folders(tmp_path)
    before, flag, after = error.value.with_flags("<FLAG>").partition("<FLAG>")
    assert flag
    assert before + after == str(error.value)
    assert folder in before
    assert folder not in after.removeprefix("names")
