"""Lists of labels as other tools write them: read as they are meant, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.class_files import label_ids, label_lines, say_files, say_lists, say_renumbered, several_names
from pacl.errors import UserError
from pacl.prompts import Label, parse_prompt, read_classes

THREE = ["sky", "sand", "a blue fish"]
COCO = '{"categories": [{"id": 7, "name": "a blue fish"}, {"id": 1, "name": "sky"}, {"id": 2, "name": "sand"}]}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", '["sky", "sand", "a blue fish"]'),
        ("list.txt", '[\n  "sky",\n  "sand",\n  "a blue fish"\n]\n'),
        ("ids.json", '{"0": "sky", "2": "a blue fish", "1": "sand"}'),
        ("names.json", '{"a blue fish": 2, "sky": 0, "sand": 1}'),
        ("coco.json", COCO),
        ("data.yaml", "path: x\nnc: 3\nnames:\n  0: sky\n  1: sand\n  2: a blue fish\n"),
        ("data.yml", "names: [sky, sand, a blue fish]\n"),
        ("flow.yaml", "[sky, sand, a blue fish]\n"),
        ("flow_ids.yml", "{0: sky, 2: a blue fish, 1: sand}\n"),
        ("json.yaml", '["sky", "sand", "a blue fish"]'),
        ("list.yaml", "- sky\n- sand\n- a blue fish\n"),
        ("bullets.txt", "- sky\n- sand\n- a blue fish\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:48,112,32::\nsand:176,112,32::\na blue fish:::\n"),
        ("lines.txt", "sky\nsand \n\na  blue fish\n"),
        ("windows.txt", "sky\r\nsand\r\na blue fish\r\n"),
    ],
)
def test_lists_of_other_tools_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [label.name for label in read_classes(tmp_path / name)] == THREE


@pytest.mark.parametrize("name", ["list.yaml", "data.yaml"])
def test_words_of_yaml_stay_as_they_are_written(tmp_path: Path, name: str) -> None:
    words = ["yes", "no", "on", "2024-13-45", "1.5", "012", "null"]
    text = "\n".join(f"- {word}" for word in words) if name == "list.yaml" else f"names: [{', '.join(words)}]"
    (tmp_path / name).write_text(text)
    assert [label.name for label in read_classes(tmp_path / name)] == words


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", '{"0": "sky", "0": "sand", "1": "sea"}'),
        ("list.yaml", "names:\n  0: sky\n  0: sand\n"),
        ("ids.json", '{"sky": 1, "sand": 1}'),
        ("coco.json", COCO.replace("7", "1")),
        ("true.json", '["sky", true]'),
        ("deep.json", "[" * 100_000),
        ("deep.yaml", "- " * 5_000),
        ("utf16.txt", "s\0k\0y\0\n\0"),
        ("nul\0.txt", None),
    ],
)
def test_names_that_would_be_lost_or_changed_are_refused(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError):
        read_classes(tmp_path / name)


def test_ids_of_masks_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text('{"1": "sky", "2": "sand"}')
    assert [label.name for label in read_classes(path, first_id=1)] == ["sky", "sand"]
    with pytest.raises(UserError, match="offset"):
        read_classes(path, first_id=0)
    path.write_text(COCO)  # 1, 2, 7
    with pytest.raises(UserError, match="7"):
        read_classes(path, first_id=1)
    path.write_text('["sky", "sand"]')
    assert len(read_classes(path, first_id=5)) == 2


@pytest.mark.parametrize(
    "text", ["0 background\n2 dog\n3 cat\n", "7: road\n11: kerb\n", "3 cat\n1 dog\n", "1 sky\n2 sand\n"]
)
def test_lines_with_ids_are_no_list_of_mask_values(tmp_path: Path, text: str) -> None:
    """Line 1 would be the value 1, whatever number stands there."""
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(UserError, match="every mask value from 5 on"):
        read_classes(path, first_id=5)


def test_names_that_differ_in_their_number_alone_are_names_of_mask_values(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("2 door car\n4 door car\n")
    assert len(read_classes(tmp_path / "classes.txt", first_id=0)) == 2


def test_the_notation_of_prompts_holds_in_them_too(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('["cat;kitten", "a dog=animal"]')
    assert read_classes(tmp_path / "list.json") == [Label("cat", ("cat", "kitten")), Label("animal", ("a dog",))]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("sky,sand,a blue fish\n", "line 1: holds 3 names with commas"),
        ("sky\tsand\ta blue fish\n", "line 1: holds 3 names with tabs"),
        ("name,r,g,b\nsky,48,112,32\n", r"columns \(name, r, g, b\)"),
        ("Idx\tName\n1\twall\n", "2 columns"),
        ("0 sky\n1 sand\n", "numbers"),
        ("0: sky\n1: sand\n", "numbers"),
        ("sky 0\nsand 1\n", "numbers"),
        ("1 dog\n2 cat\n4 grass\n", "numbers"),
        ("1. dog\n7) cat\n", "numbers"),
        ("48 112 32 sky\n1 2 3 sand\n", "numbers"),
        ("name: sky\nname2: sand\n", "keys"),
        ("sky: blue\nsand:\n", "keys"),
        ("name: sky\n", "keys"),
        ("0: sky\n", "keys"),
        ("# Classes\n\nname: sky  # one\n", "keys"),
        ("classes:\n  - sky\n  - sand\n", "keys"),
        ("item {\n  id: 1\n  name: 'sky'\n}\n", "label map of TensorFlow"),
        ("1=dog\n2=cat\n4=grass\n", "numbers"),
        ("10 = dog\n3 = cat\n", "numbers"),
        ("dog=0\ncat=1\n", "numbers"),
        ("1=class 1\n2=class 2\n", "numbers"),
        ("0=sky\n", "numbers"),
        ("id;name\n0;sky\n1;sand\n", r"2 columns \(id, name\)"),
        ("0;sky\n1;sand\n", "columns"),
        ("name; id\nsky; 7\nsand; 3\n", "columns"),
        ("id;name;r;g;b\n0;sky;48;112;32\n1;sand;1;2;3\n", "5 columns"),
        ("0;sky\n", "columns"),
        ("<annotation><name>sky</name></annotation>", "XML"),
        ('"sky"\n"sand"\n', "quotation marks"),
        ('{"shapes": []}', "JSON with a mapping with shapes"),
        ('["sky", ', "not valid JSON"),
        ('[["sky"], ["sand"]]', "no list"),
        ("names:\n  - [sky\n", "not valid YAML"),
        ("names:\n  sky: {colour: red}\n", "YAML with a mapping"),
    ],
)
def test_what_cannot_be_labels_is_refused_in_one_line(tmp_path: Path, text: str, seen: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=seen) as error:
        read_classes(tmp_path / "classes.txt")
    assert "classes.txt" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("header", ["name", "Class_Name", "labels"])
def test_the_head_of_the_only_column_is_no_label(header: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(f"{header}\nsky\nsand\n")
    with pytest.raises(UserError, match="line 1"):
        read_classes(tmp_path / "classes.csv")
    (tmp_path / "classes.csv").write_text("sky\nname tag\n")
    assert [label.name for label in read_classes(tmp_path / "classes.csv")] == ["sky", "name tag"]


@pytest.mark.parametrize(
    "text",
    [
        "boeing 737\nairbus 320\n",
        "airbus 320\nboeing 737\n",
        "2 door car\n4 door car\n",
        "7 seas\n3 graces\n",
        "7 seas\nsky\n",
        "tench, Tinca tinca\ngoldfish\n",
        "7 seas\n",
        "cat;kitten\n",
        "cat;kitten\ndog;puppy\n",
        "car;2 door car\nplane;boeing 737\n",
        "car;4x4;1\nplane;jet\n",
        "name\nsky\n",
        "seat 1\nseat 2\n",
        "Alien: a film\nsky\n",
    ],
)
def test_names_with_numbers_and_commas_stay_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    assert [label.name for label in read_classes(tmp_path / "classes.txt")] == [
        line.split(";")[0] for line in text.splitlines()
    ]


@pytest.mark.parametrize(
    "prompt",
    ["a dog, grass, sky", "a dog. grass. sky.", "a dog . grass . sky .", "a dog|grass|sky", "a dog\ngrass\nsky"],
)
def test_lists_in_a_prompt_are_seen(prompt: str) -> None:
    assert list(several_names(prompt)) == ["a dog", "grass", "sky"]


@pytest.mark.parametrize("prompt", ["tv, table", "tv,keyboard", "tv, chair, table", "cat, tv", "TV|cat", "tv\ncat"])
def test_short_names_are_names_of_a_list(prompt: str) -> None:
    assert len(several_names(prompt)) == len(prompt.replace(",", " ").replace("|", " ").split())


@pytest.mark.parametrize(
    "prompt",
    [
        *(
            "a dog",
            "a dog.",
            "St. Bernard",
            "Dr. No",
            "a dog and a cat",
            "7,5 m",
            "10,000 people",
            "a, b",
            "a/b",
            "cat,",
        ),
        *("a man in St. Louis", "the U.S. flag", "Washington, D.C.", "No. 5 bus", "Mrs. Smith"),
    ],
)
def test_other_prompts_are_one_name(prompt: str) -> None:
    assert not several_names(prompt)


def test_a_repeated_synonym_is_said() -> None:
    with pytest.warns(UserWarning, match='"dog" is there twice'):
        assert parse_prompt("dog;hound; dog") == Label("dog", ("dog", "hound"))


def test_the_warning_of_lists_names_the_first_and_its_parts() -> None:
    assert say_lists(["sky", "a dog"]) is None
    said = say_lists(["sky", "a dog, grass", "a, b", "cow, hay, mud"])
    assert said is not None
    assert all(part in said for part in ('"a dog, grass"', '"a dog" "grass"', "2 labels", "1 more"))


@pytest.mark.parametrize("prompts", [["cat,", "dog,", "blanket"], ["cat", ",dog", "|sky"], ["cat,", ",", "dog"]])
def test_names_that_a_shell_divided_at_the_spaces_of_a_list_are_told(prompts: list[str]) -> None:
    said = say_lists(prompts)
    assert said is not None
    assert "1 more" in said
    assert say_lists([prompt.strip(",|") for prompt in prompts]) is None


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("a.json", '{"10": "b", "2": "a"}', [2, 10]),
        ("a.json", '{"b": 10, "a": 2}', [2, 10]),
        ("a.json", '{"categories": [{"id": 7, "name": "b"}, {"id": 3, "name": "a"}]}', [3, 7]),
        ("a.yaml", "names:\n  1: a\n  2: b\n", [1, 2]),
        ("a.yaml", "names: [a, b]", None),
        ("a.json", '["a", "b"]', None),
        ("a.txt", "a\nb\n", None),
    ],
)
def test_ids_are_in_the_order_of_the_labels(tmp_path: Path, name: str, text: str, ids: list[int] | None) -> None:
    (tmp_path / name).write_text(text)
    assert label_ids(tmp_path / name) == ids
    assert [label for _, label in label_lines(tmp_path / name)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "before", "kept"),
    [
        ('{"categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}]}', 0, False),
        ('{"categories": [{"id": 2, "name": "cat"}, {"id": 1, "name": "car"}]}', 0, True),
        ('{"names": {"5": "cat", "9": "dog"}}', 0, False),
        ('{"names": {"0": "cat", "1": "dog"}}', 0, True),
        ('{"names": {"0": "cat", "1": "dog"}}', 1, False),  # another label is the first
        ('["cat", "dog"]', 1, True),  # without ids
    ],
)
def test_ids_that_results_do_not_have_are_said(tmp_path: Path, text: str, before: int, kept: bool) -> None:
    (tmp_path / "a.json").write_text(text)
    assert (say_renumbered(tmp_path / "a.json", before) is None) == kept


@pytest.mark.parametrize("word", ["cat.jpg", "Cat.PNG", "classes.txt", "x.json", "clip.mp4", "paper.pdf", "photos/*"])
def test_what_looks_like_a_file_is_said(word: str) -> None:
    said = say_files(["sky", word, "b.jpg"])
    assert said is not None
    assert word in said
    assert "1 more" in said


def test_words_are_no_files() -> None:
    assert say_files(["a dog", "car/truck", "St. Bernard", "U.S.A.", "no. 5", "e.g. sky"]) is None
