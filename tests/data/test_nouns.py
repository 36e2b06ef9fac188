import json
import sys
from importlib.metadata import PackageNotFoundError
from random import Random

import pytest

from pacl.data import nouns as module
from pacl.errors import UserError

pytest.importorskip("textblob", reason="needs pacl[nouns]")
pytest.importorskip("lemminflect", reason="needs pacl[nouns]")

CAPTIONS = ["A dog runs on grass .", "Two boys kick a soccer ball .", "A dog runs on grass ."]
NOUNS = [("dog", "grass"), ("boy", "soccer ball"), ("dog", "grass")]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A boy is flying a kite and smiling at the camera .", ("boy", "kite", "camera")),
        ("Two dogs are playing with two cats", ("dog", "cat")),
        ("Three people, some children and two women with big knives", ("person", "child", "woman", "knife")),
        ("A man in shorts and glasses holds scissors and his pants", ("man", "shorts", "glasses", "scissors", "pants")),
        ("The bus is on the grass", ("bus", "grass")),
        ("Leaves and a dress on a bench", ("leaf", "dress", "bench")),
        ("The café’s waiter", ("cafe", "waiter")),
    ],
)
def test_nouns_in_the_singular_in_order(caption, expected):
    assert module.nouns(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Two hockey sticks near a swimming pool", ("hockey stick", "swimming pool")),
        ("A mountain biker next to a chain link fence", ("mountain biker", "chain link fence")),
        ("A chess piece on a car in the parking lot", ("chess piece", "car", "parking lot")),
        ("A child plays in a bounce house with a tote bag", ("child", "bounce house", "tote bag")),
        ("A running dog with a fishing pole", ("dog", "fishing pole")),
        ("The boys' toys", ("boy", "toy")),
        ("The man rock climbs", ("man", "rock")),
        ("A fruit stand and a white bathroom sink", ("fruit stand", "bathroom sink")),
        ("Two teddy bears eat a hot dog on the train tracks", ("teddy bear", "hot dog", "train track")),
    ],
)
def test_neighbours_are_one_noun_when_the_first_is_a_singular_thing(caption, expected):
    assert module.nouns(caption) == expected


def test_a_keyword_list_is_not_one_noun():
    assert module.nouns("kitchen table chair lamp window") == ("kitchen", "table", "chair", "lamp", "window")


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A small brown dog paws at a white ball", ("dog", "ball")),
        ("A boy in a red shirt jumps off a rock", ("boy", "shirt", "rock")),
        ("The man rides a bike while the dogs race", ("man", "bike", "dog")),
        ("A man reading newspapers by a brick building", ("man", "newspaper", "brick building")),
        ("Girls skiing and dancing", ("girl",)),
        ("A kid on a red sled in a lift", ("kid", "sled", "lift")),
        ("A bathroom with toilet, sink, and tub", ("bathroom", "toilet", "sink", "tub")),
        ("A man watches a bird eat a worm", ("man", "bird", "worm")),
        ("The girl in the pink stands and poses", ("girl",)),
    ],
)
def test_verbs_are_told_from_nouns(caption, expected):
    assert module.nouns(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A group of people in front of the camera, a tree in the background", ("person", "camera", "tree")),
        ("A picture of a couple of dogs on top of a hill", ("dog", "hill")),
        ("A girl in pink and an asian girl in black", ("girl",)),
        ("An orange cat eats an orange .", ("cat", "orange")),
        ("A street corner", ("street",)),
    ],
)
def test_words_for_nothing_one_could_point_at_are_left_out(caption, expected):
    assert module.nouns(caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "   \n",
        ". , !",
        "42 1/2",
        "🐕🐕 🌳",
        "一只狗在草地上",
        "Собака бежит по траве",
        "ein hund läuft über die wiese",
        "xkq zzv qwrt",
    ],
)
def test_what_is_not_english_has_no_nouns(caption):
    assert module.nouns(caption) == ()


def test_emoji_markup_and_control_characters_do_not_disturb_the_words():
    assert module.nouns("🐕 A dog\x00 on\tthe\ngrass/sand 🌳 <b>&amp;</b>")[:3] == ("dog", "grass", "sand")


def test_any_text_will_do():
    rng = Random(0)
    symbols = [chr(i) for i in range(0x250)] + [
        "\ud800",
        "’",
        "…",
        "dog",
        "runs",
        "the",
        " ",
        "'s",
        "n't",
        "&slash;",
        "/",
    ]
    for _ in range(300):
        found = module.nouns(
            "".join(rng.choices(symbols, k=rng.randrange(30))) + " the dog runs on the grass in the park"
        )
        assert all(noun and noun == noun.lower() and noun.isascii() for noun in found)


def test_a_very_long_caption_gives_each_noun_once():
    assert module.nouns("a dog and a cat on the grass , " * 3000) == ("dog", "cat", "grass")
    assert module.nouns("dog" * 100_000) == ()


def test_no_noun_is_plural_upper_case_or_named_twice():
    for caption in ("DOGS, Dogs and a DOG", "Dog dogs dog."):
        assert module.nouns(caption) == ("dog",)


def test_tag_all_keeps_the_order_and_looks_at_equal_captions_once(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "nouns", lambda caption: seen.append(caption) or (caption[:5],))
    assert module.tag_all(iter(CAPTIONS)) == [("A dog",), ("Two b",), ("A dog",)]
    assert sorted(seen) == sorted(set(CAPTIONS))
    assert module.tag_all([]) == []


def test_the_cache_is_read_instead_of_tagging_again(tmp_path, monkeypatch):
    assert module.tag_all(CAPTIONS, tmp_path / "new") == NOUNS
    (path,) = (tmp_path / "new").iterdir()
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(module, "nouns", lambda caption: pytest.fail("tagged again"))
    assert module.tag_all(CAPTIONS, tmp_path / "new") == NOUNS
    assert module.tag_all(reversed(CAPTIONS), tmp_path / "new") == NOUNS[::-1]
    assert path.stat().st_mtime_ns == before


def test_other_captions_other_rules_and_other_packages_have_caches_of_their_own(tmp_path, monkeypatch):
    module.tag_all(CAPTIONS, tmp_path)
    assert module.tag_all(["A cat ."], tmp_path) == [("cat",)]
    monkeypatch.setattr(module, "RULES", module.RULES + 1)
    module.tag_all(CAPTIONS, tmp_path)
    monkeypatch.setattr(module, "version", lambda package: "99")
    module.tag_all(CAPTIONS, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def damage(kept, **changes):
    return json.dumps({**kept, **changes})


@pytest.mark.parametrize(
    "make",
    [
        lambda kept: "",
        lambda kept: json.dumps(kept)[:-9],
        lambda kept: "[" * 100_000,
        lambda kept: "[1, 2]",
        lambda kept: "{}",
        lambda kept: damage(kept, digest="0" * 64),
        lambda kept: damage(kept, nouns=kept["nouns"][:-1]),
        lambda kept: damage(kept, nouns=None),
        lambda kept: damage(kept, nouns=["dog", "grass"]),
        lambda kept: damage(kept, nouns=[[1], ["boy"]]),
        lambda kept: b"\xff\xfe\x00",
    ],
)
def test_a_damaged_or_foreign_cache_file_is_written_anew(make, tmp_path):
    module.tag_all(CAPTIONS, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    damaged = make(json.loads(whole))
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    assert module.tag_all(CAPTIONS, tmp_path) == NOUNS
    assert [path] == list(tmp_path.iterdir())
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "nouns", lambda caption: pytest.fail("tagged for nothing"))
    with pytest.raises(UserError, match="file"):
        module.tag_all(CAPTIONS, tmp_path / "file")


def test_progress_is_that_of_the_caller(capsys):
    seen = []

    def tracked(items, title, total=None):
        for item in items:
            seen.append((title, item))
            yield item

    assert module.tag_all(CAPTIONS, tracked=tracked) == module.tag_all(CAPTIONS)
    assert seen == [("nouns", caption) for caption in sorted(set(CAPTIONS))]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("package", module.PACKAGES)
def test_a_missing_package_is_named_with_what_to_install(package, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    for kept in (module._tagger, module._kinds, module._singular, module._known, module._capitalised):
        kept.cache_clear()
    with pytest.raises(UserError, match=rf"{package}.*pacl\[nouns\]"):
        module.nouns("A glorp dog")


def test_a_missing_package_is_named_before_the_cache_is_looked_for(tmp_path, monkeypatch):
    def version(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(module, "version", version)
    with pytest.raises(UserError, match=r"textblob.*pacl\[nouns\]"):
        module.tag_all(CAPTIONS, tmp_path)
