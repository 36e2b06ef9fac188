import json

import pytest

from pacl.data.caption_text import captions_in, captions_of_files, is_image_name


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        (" a  cat\n on a mat ", ["a cat on a mat"]),
        ("['a cat', \"it's a dog\"]", ["a cat", "it's a dog"]),
        ('["a \\"red\\" cat", "one \\ud83d\\ude00"]', ['a "red" cat', "one \U0001f600"]),
        ("['a cat' 'two dogs'\n 'a cow']", ["a cat", "two dogs", "a cow"]),  # NumPy
        ("array(['a cat'], dtype=object)", ["array(['a cat'], dtype=object)"]),
        ("['a cat', nan]", ["a cat"]),
        ("('a cat',)", ["a cat"]),
        ("{'raw': 'a cat', 'tokens': ['a', 'cat']}", ["a cat"]),
        ("[]", []),
        ("[photo] a cat [stock]", ["[photo] a cat [stock]"]),
        ("[a painted sign]", ["[a painted sign]"]),
        ("['a cat\n walks', 'a dog']", ["a cat walks", "a dog"]),
        ('["a cat\n walks"]', ["a cat walks"]),
        (r"['c:\users cat photo']", [r"['c:\users cat photo']"]),  # \u without four digits
        ("{{}}", []),
        ("{[]: 'a cat'}", ["{[]: 'a cat'}"]),
        ("{{'a cat'}}", ["{{'a cat'}}"]),
        (["a cat", None, {"raw": "a dog"}, ["a cow"]], ["a cat", "a dog", "a cow"]),
        ({"Caption": "", "text": "a cat"}, ["a cat"]),
        ({"label": "a cat"}, []),
        ("\U0001f415", ["\U0001f415"]),
        ("犬", ["犬"]),
        ("none of the cats", ["none of the cats"]),
        ("a cat \ud83d on a mat", ["a cat \ufffd on a mat"]),  # no tokenizer takes half a surrogate pair
        *((word, []) for word in ("nan", "NaN", "None", "NULL", " N/A ", "<NA>", "", "  ", "-", "...")),
        *((name, []) for name in ("IMG_1.JPG", "photos/a.jpeg", "https://x.org/a.jpg?w=3", "https://x.org/page")),
        ("0 0.5 0.5 0.1 0.1", []),  # a box
        ("dog 0.91 12 30 100 200", []),
        ("dog 1 2 3", ["dog 1 2 3"]),
        ("2 dogs, 1 cat", ["2 dogs, 1 cat"]),
        (None, []),
        (float("nan"), []),
        (3, []),
        (b"a cat", []),
    ],
)
def test_captions_in_a_value(value, captions):
    assert captions_in(value) == captions


def test_a_file_name_is_no_caption_of_its_own_image():
    assert captions_in("IMG_0001", "photos/IMG_0001.jpg") == []
    assert captions_in("my cat.jpg", "my cat.jpg") == []
    assert captions_in("cat", "cat.jpg") == ["cat"]


def test_the_first_file_that_has_a_caption_is_used():
    files = {"json": json.dumps({"caption": "from json"}).encode(), "txt": b"from text\nin two lines"}
    assert captions_of_files(files) == ["from text", "in two lines"]
    assert captions_of_files(files | {"txt": b"nan"}) == ["from json"]
    assert captions_of_files({"txt": "größe".encode("utf-16"), "json": b"["}) == ["größe"]
    assert captions_of_files({"json": b'["a cat"]'}) == []


def test_image_names():
    assert all(map(is_image_name, ("a.jpg", " b/c.PNG ", "http://x/a.webp?x=1#y")))
    assert not any(map(is_image_name, ("a cat.jpg", "a.txt", "jpg", "")))
