"""What people may type, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pacl.errors import ArgumentError, UserError
from pacl.prompts import (
    GENERIC_CONTRAST,
    TEMPLATE_NAMES,
    TEMPLATES,
    Label,
    check_labels,
    fill,
    get_templates,
    parse_prompt,
    read_classes,
    subjects,
    unknown_words,
)

# --- Prompts and labels -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "prompts"),
    [
        ("a dog", "a dog", ("a dog",)),
        ("a dog=dog", "dog", ("a dog",)),
        ("cat;kitten=cat", "cat", ("cat", "kitten")),
        ("cat; kitten", "cat", ("cat", "kitten")),
        ("  a   big dog = big  dog ", "big dog", ("a big dog",)),
        ("cat;;kitten;", "cat", ("cat", "kitten")),
        ("e=mc2=formula", "formula", ("e=mc2",)),
        ("犬=dog", "dog", ("犬",)),
    ],
)
def test_parse_prompt(text: str, name: str, prompts: tuple[str, ...]) -> None:
    assert parse_prompt(text) == Label(name, prompts)


@pytest.mark.parametrize("text", ["", "   ", ";", "=dog", " ; =dog"])
def test_empty_prompts(text: str) -> None:
    with pytest.raises(UserError, match="empty prompt"):
        parse_prompt(text)


@pytest.mark.parametrize("text", ["a dog=", "a dog= "])
def test_empty_label(text: str) -> None:
    with pytest.raises(UserError, match="a dog=label"):
        parse_prompt(text)


def test_read_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\ufeff# animals\ncat; kitten\n\n  a dog;a puppy=dog  # both\nC#\n", encoding="utf-8")
    assert read_classes(path) == [
        Label("cat", ("cat", "kitten")),
        Label("dog", ("a dog", "a puppy")),
        Label("C#", ("C#",)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\n=dog\n", "line 2"),
        (b"# nothing\n\n", "no classes"),
        (b"", "no classes"),
        (b"cat\n\ndog\ncat\n", 'lines 1 and 4: label "cat" is given twice: delete or rename one'),
        (b"cat\na cat=Cat\n", "lines 1 and 2: .* join synonyms"),
        (b"\xff\xfe\x00\x89PNG", "not a UTF-8 text file"),
    ],
)
def test_bad_class_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_classes(path)
    assert "classes.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_class_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_classes(tmp_path / "no.txt")
    with pytest.raises(UserError, match="cannot be read"):
        read_classes(tmp_path)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompts"),
        (["dog", "a dog=dog"], 'label "dog" is given twice'),
        (["dog", "Dog"], 'label "Dog" is "dog" in other letters'),
        (["caf\u00e9", "cafe\u0301"], "in other letters"),
        (["a dog=dog", "a dog=animal"], 'belongs to two labels, "dog" and "animal"'),
        (["a;b=one", "B;c=two"], 'prompt "b"'),
    ],
)
def test_bad_lists(prompts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_labels([parse_prompt(prompt) for prompt in prompts])


def test_shared_prompts_where_they_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("sky;bed=background\nbed\n")
    with pytest.raises(UserError, match=r'"bed".*"background"'):
        read_classes(path)
    assert check_labels(read_classes(path, shared_prompts=True), shared_prompts=True) == [
        Label("background", ("sky", "bed")),
        Label("bed", ("bed",)),
    ]
    path.write_text("bed\ncouch=bed\n")
    with pytest.raises(UserError, match='"bed"'):
        read_classes(path, shared_prompts=True)


def test_labels_made_by_hand_are_checked_too() -> None:
    for name, prompts in (("", ("a",)), (" ", ("a",)), ("a", ()), ("a", (" ",)), ("a", ("cat", ""))):
        with pytest.raises(ArgumentError) as error:
            Label(name, prompts)
        assert error.value.argument == ("prompts" if name == "a" else "name")
    assert Label(" a ", (" cat",)) == Label("a", ("cat",))
    with pytest.raises(UserError, match="twice"):
        check_labels([Label(" a ", ("cat",)), Label("a", ("dog",))])
    with pytest.raises(UserError, match="at most"):
        check_labels([Label(str(i), (str(i),)) for i in range(65_535)])


def test_good_lists_come_back_as_they_are() -> None:
    labels = [parse_prompt("a dog=dog"), parse_prompt("dog;hound=other")]
    assert check_labels(labels) == labels


def words_and_two(text: str) -> int:
    """A stand-in for a tokenizer: a token a word, start and end."""
    return len(text.split()) + 2


def test_over_long_prompts() -> None:
    labels = [Label("short", ("a dog",)), Label("long", ("word " * 20,))]
    assert check_labels(labels, count_tokens=words_and_two, context_length=22) == labels
    with pytest.raises(UserError, match=r"22 tokens .* reads 21"):
        check_labels(labels, count_tokens=words_and_two, context_length=21)
    with pytest.raises(UserError, match="reads 22") as caught:  # the longest template counts as well
        check_labels(labels, count_tokens=words_and_two, context_length=22, templates=("{}", "a photo of {}."))
    assert len(str(caught.value)) < 200
    check_labels(labels, context_length=5)  # without a tokenizer nobody can know


def test_an_article_that_a_template_swallows_is_not_counted() -> None:
    label = [Label("dog", ("a dog",))]
    check_labels(label, count_tokens=words_and_two, context_length=7, templates=("a photo of a {}.",))
    with pytest.raises(UserError, match="7 tokens"):
        check_labels(label, count_tokens=words_and_two, context_length=6, templates=("a photo of a {}.",))


# --- Templates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "prompt", "text"),
    [
        ("{}", "a dog", "a dog"),
        ("a photo of a {}.", "a dog", "a photo of a dog."),
        ("a photo of a {}.", "dog", "a photo of a dog."),
        ("a photo of a {}.", "the old dog", "a photo of a old dog."),
        ("a photo of {}.", "a dog", "a photo of a dog."),
        ("a photo of many {}.", "a dog", "a photo of many dog."),
        ("a photo of {}s.", "a dog", "a photo of dogs."),
        ("a photo of a hard to see {}.", "an owl", "a photo of a hard to see owl."),
        ("itap of my {}.", "the dog", "itap of my dog."),
        ("the embroidered {}.", "a dog", "the embroidered dog."),
        ("a {} in a video game.", "a dog", "a dog in a video game."),
        ("a cat and {}", "a dog", "a cat and a dog"),
        ("a photo of a {}.", "anteater", "a photo of a anteater."),
        ("a photo of a {}.", "theatre", "a photo of a theatre."),
        ("a photo of a {}.", "a", "a photo of a a."),
        ("a photo of a {}.", "{}", "a photo of a {}."),
    ],
)
def test_fill(template: str, prompt: str, text: str) -> None:
    assert fill(template, prompt) == text


def test_named_templates() -> None:
    assert get_templates("none") == ("{}",)
    assert len(get_templates("paper")) == 7
    assert len(get_templates("imagenet")) == 80
    assert set(TEMPLATE_NAMES) == {*TEMPLATES, "imagenet"}
    for name in TEMPLATE_NAMES:
        assert all(template.count("{}") == 1 for template in get_templates(name))
        assert not any(" a a " in fill(t, "a dog") or " the a " in fill(t, "a dog") for t in get_templates(name))


def test_the_papers_templates_are_clips_short_list() -> None:
    from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES

    assert set(get_templates("paper")) == {template("{}") for template in SIMPLE_IMAGENET_TEMPLATES}


def test_template_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\na drawing of a {}.\n{} at night\n")
    assert get_templates(path) == ("a drawing of a {}.", "{} at night")
    path.write_text("a drawing\n")
    with pytest.raises(UserError, match="line 1"):
        get_templates(str(path))
    path.write_text("\n")
    with pytest.raises(UserError, match="no templates"):
        get_templates(path)
    with pytest.raises(UserError, match="none, photo, paper, imagenet"):
        get_templates("papr")


# --- Words -------------------------------------------------------------------------------------------


def test_generic_contrast_reads_as_english() -> None:
    assert 100 < len(GENERIC_CONTRAST) < 200
    assert len(set(GENERIC_CONTRAST)) == len(GENERIC_CONTRAST)
    assert {"a dog", "an umbrella", "an apple", "grass", "a traffic light", "scissors"} <= set(GENERIC_CONTRAST)
    assert all(name == " ".join(name.split()) for name in GENERIC_CONTRAST)


def test_unknown_words() -> None:
    vocabulary = frozenset({"a", "red", "fish"})
    assert unknown_words(["a red fish", "A blue Fish, a whale"], vocabulary) == ["blue", "whale"]
    assert unknown_words(["?", "😀 fish", "犬", "a red"], vocabulary) == ["?", "犬"]
    assert unknown_words(["anything", "?"], None) == []


@pytest.mark.parametrize(
    ("prompt", "about"),
    [
        ("Dog", {"dog"}),
        ("a man with a green hat", {"man with a green hat", "man"}),
        ("two dogs running", {"two dogs running", "running", "dogs", "dog"}),
        ("the  swimming pool", {"swimming pool", "pool"}),
        ("a building", {"building"}),
        ("T-shirts", {"t-shirts", "shirts", "shirt"}),
        ("on the grass", {"on the grass", "grass"}),
        ("!", {"!"}),
    ],
)
def test_subjects(prompt: str, about: set[str]) -> None:
    assert set(subjects(prompt)) == about


def test_a_prompt_without_a_known_token_is_refused() -> None:
    def count(text: str) -> int:
        return sum(word in ("a", "photo", "of", "dog") for word in text.split())

    templates = ("a photo of {}",)
    for prompt in ("zzz", "a zzz"):
        with pytest.raises(UserError, match=prompt):
            check_labels([parse_prompt("a dog"), parse_prompt(prompt)], count_tokens=count, templates=templates)
    assert check_labels([parse_prompt("a zzz dog")], count_tokens=count, templates=templates)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(UserError, match="dog"):
        check_labels([parse_prompt("a \udcff dog")])


@pytest.mark.parametrize("prompts", ["sky", (1,), None, {"sky": 1}, b"sky"])
def test_the_prompts_of_a_label_are_several_texts(prompts: Any) -> None:
    with pytest.raises(ArgumentError, match="prompts"):
        Label("sky", prompts)
    with pytest.raises(ArgumentError, match="name"):
        Label(3, ("sky",))  # type: ignore[arg-type]
    assert Label("sky", ["sky"]) == Label("sky", ("sky",))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["= {}", "{}=", "{} "])
def test_long_prompts_are_not_repeated_as_a_whole(text: str) -> None:
    prompt = text.format("a" * 60_000)
    with pytest.raises(UserError) as refused:
        check_labels([parse_prompt(prompt)], count_tokens=lambda each: len(each) if "x" in each else 0)
    assert len(str(refused.value)) < 500
