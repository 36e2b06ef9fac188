"""Prompts that are far from all words of a training, on a static text tower of a few tokens and on the shipped one."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pacl import train
from pacl.errors import SameEmbedding, SimilarLabels, UnfamiliarWords, UnknownWords, UserError
from pacl.models.backbone import load_backbone
from pacl.models.config import CONFIG
from pacl.models.distillation import UNKNOWN
from pacl.models.head import HeadConfig, shipped_folder
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers.static_tower import WORDS, StaticTower, load_static_tower
from pacl.models.vocabulary import (
    LEAST,
    LIMIT,
    NAMED,
    Unfamiliar,
    Vocabulary,
    close_words,
    say_in_pieces,
    say_unfamiliar,
    trained_words,
)
from pacl.prompts import read_classes
from pacl.segmentation.segmenter import Segmenter
from tests.colours import noise
from tests.models.towers.test_static_tower import save_tower
from tests.paths import ROOT
from tests.tiny import save_tiny_clip

VECTORS = {
    UNKNOWN: (0.0, 0.0, 0.0),
    "dog": (1.0, 0.0, 0.0),
    "puppy": (0.8, 0.6, 0.0),  # cosine 0.8 with "dog"
    "whelp": (0.5, 0.0, 0.75**0.5),  # 0.5
    "cat": (-1.0, 0.0, 0.0),
    "red": (0.0, 1.0, 0.0),
    "engine": (0.0, 0.0, 1.0),
}


@pytest.fixture
def tower_name(tmp_path: Path) -> str:
    return save_tower(tmp_path / "tower", list(VECTORS), embeddings=torch.tensor(list(VECTORS.values())))


@pytest.fixture
def vocabulary(tower_name: str) -> Vocabulary:
    return Vocabulary(["dog", "cat"], load_static_tower(tower_name)[0])


def watched(tower: StaticTower, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of the tower embeds."""
    calls: list[int] = []
    encode = tower.encode

    def counted(texts: Any) -> Tensor:
        calls.append(len(texts))
        return encode(texts)

    monkeypatch.setattr(tower, "encode", counted)
    return calls


# --- Far and near -------------------------------------------------------------------------------------------------


def test_far_prompts_come_with_their_nearest_word(vocabulary: Vocabulary) -> None:
    found = vocabulary.unfamiliar(["dog", "a whelp", "puppy", "engine", "a whelp"])
    assert [(each.prompt, each.nearest) for each in found] == [("a whelp", "dog"), ("engine", "dog")]
    assert [each.cosine for each in found] == pytest.approx([0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    "prompt", ["a red dog", "Dogs", "the dog with an engine", "cat dog running", "a red puppy", "a red, red puppy"]
)
def test_a_prompt_is_as_near_as_its_main_noun(vocabulary: Vocabulary, prompt: str) -> None:
    assert vocabulary.unfamiliar([prompt]) == []


@pytest.mark.parametrize("prompt", ["a dog, red, red engine", "engine of a red red dog", "red"])
def test_other_words_of_a_prompt_make_it_no_nearer(vocabulary: Vocabulary, prompt: str) -> None:
    assert [each.prompt for each in vocabulary.unfamiliar([prompt])] == [prompt]


def test_known_prompts_embed_nothing_and_the_words_are_embedded_once(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = watched(vocabulary.text, monkeypatch)  # type: ignore[arg-type]
    assert vocabulary.unfamiliar(["dog", "a cat", "cats"]) == []
    assert calls == []
    vocabulary.unfamiliar(["engine"])
    vocabulary.unfamiliar(["whelp"])
    assert sorted(calls) == [1, 1, 2]


@pytest.mark.parametrize(("words", "familiar"), [([], 0.6), (["dog"], None)])
def test_without_words_or_a_tower_that_can_tell_nothing_is_far(
    tower_name: str, words: list[str], familiar: float | None
) -> None:
    tower = load_static_tower(tower_name)[0]
    tower.familiar = familiar  # type: ignore[assignment]
    assert Vocabulary(words, tower).unfamiliar(["engine"]) == []


def test_one_line_names_some_and_counts_the_others() -> None:
    one = say_unfamiliar([Unfamiliar("a theremin", "guitar", 0.314)])
    assert '"a theremin"' in one
    assert "guitar, 0.31" in one
    many = say_unfamiliar([Unfamiliar(f"w{i}", "dog", 0.1) for i in range(NAMED + 3)])
    assert many.count("nearest") == NAMED
    assert "3 more" in many
    assert "\n" not in many


# --- The words ----------------------------------------------------------------------------------------------------


def test_the_words_are_frequent_nouns_then_classes() -> None:
    nouns = Counter({"dog": LEAST + 5, "cat": LEAST, "boat": LEAST - 1})
    clip: Any = SimpleNamespace(classifier=SimpleNamespace(names=[("Egyptian cat", "mau"), ("dog",)]))
    assert trained_words(nouns, clip, "conse") == ["dog", "cat", "egyptian cat"]
    assert trained_words(nouns, clip, "paper") == ["dog", "cat"]
    assert (
        trained_words(Counter(), clip, "conse") == []
    )  # not counted: else the words of the captions would be warned of
    clip.classifier = None
    assert trained_words(nouns, clip, "conse") == ["dog", "cat"]
    assert len(trained_words(Counter({f"noun {i}": LEAST for i in range(LIMIT + 9)}), clip, "conse")) == LIMIT


@pytest.mark.parametrize("nouns", [True, False])
def test_a_training_writes_them(tower_name: str, tmp_path: Path, nouns: bool) -> None:
    """Nouns of the captions, and persons by that word; a CLIP's head has none."""
    for n in range(4):
        Image.fromarray(np.full((32, 32, 3), 60 * n, np.uint8)).save(tmp_path / f"{n}.png")
    captions = ["a dog and a man", "a man on the grass", "a dog on the grass", "the dog"]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["image,caption", *(f"{n}.png,{caption}" for n, caption in enumerate(captions))]))

    def trained(backbone: str, dense: str, start: str) -> list[str]:
        out = tmp_path / dense
        arguments = [f"--model.backbone={backbone}", f"--model.dense={dense}", f"--model.start={start}"]
        arguments += [
            "--config=configs/scenes.yaml",
            "--data=pacl.data.CaptionData",
            f"--data.pairs={table}",
            "--data.size=32",
            "--data.batch_size=4",
        ]
        arguments += [f"--data.nouns={str(nouns).lower()}", "--trainer.max_steps=1", f"--out={out}"]
        arguments += [f"--trainer.{each}=false" for each in ("enable_progress_bar", "enable_model_summary", "logger")]
        assert train.main(["--config=configs/captions.yaml", *arguments, "--model.patches=null"]) == 0
        return HeadConfig.read(out / CONFIG).vocabulary

    assert trained(f"timm:test_resnet/random+{tower_name}", "clip", "paper") == (["dog"] if nouns else [])
    assert trained(save_tiny_clip(tmp_path / "small"), "value", "clip") == []


# --- Where people see it ------------------------------------------------------------------------------------------


def test_the_segmenter_warns_once_a_call(tower_name: str) -> None:
    model = PACL.untrained(load_backbone(f"timm:test_resnet/random+{tower_name}"), dense="clip", start="paper")
    model.config.vocabulary = ["dog", "cat"]
    segmenter = Segmenter(model.eval())
    segmenter.set_image(noise(32, 32))
    with pytest.warns(UnfamiliarWords, match="whelp") as heard:
        segmenter.predict(["a whelp", "dog"])
    assert [warning.filename for warning in heard] == [__file__]
    with pytest.warns(UnfamiliarWords) as heard:
        segmenter.predict_batch([noise(32, 32)] * 3, ["a whelp", "engine"])
    (warning,) = heard
    assert "whelp" in str(warning.message)
    assert "engine" in str(warning.message)
    assert warning.filename == __file__
    query = segmenter.prepare(["dog", "cat"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter.predict(["dog", "a cat"])
        segmenter.predict(query)


@pytest.mark.parametrize("labels", [["foo", "bar", "a dog"], ["foo=a", "grey", "bar=b"]], ids=str)
def test_words_that_the_bundled_model_was_never_taught(labels: list[str]) -> None:
    """All of them have one embedding, so that they are also the same prompt."""
    segmenter = Segmenter(load_model("bundled", device="cpu"))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        segmenter.predict_batch([noise(32, 32)] * 2, labels)
    unknown, same = heard
    assert (unknown.category, same.category) == (UnknownWords, SameEmbedding)
    for warning in heard:
        assert "foo" in str(warning.message)
        assert "bar" in str(warning.message)
        assert warning.filename == __file__
    with pytest.warns(UnknownWords, match="😀"):
        segmenter.predict_batch([], ["😀", "sky"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter.predict_batch([], ["a red fish", "a blue fish;a fish=b", "sky"])


@pytest.mark.parametrize(
    ("prompts", "alike"),
    [
        (["horse", "horses", "sky"], "horse; horses"),
        (["the red fish", "sky", "A Red Fish"], "the red fish; A Red Fish"),
        (["cat", "horse", "the cat", "horses"], "cat; the cat + horse; horses"),
        (["glass", "gla", "the", "a"], None),
        (["dog", "horse=horses"], None),
        (["dog;dogs", "cat"], None),
    ],
)
def test_labels_that_differ_in_form_only_are_warned_of(prompts: list[str], alike: str | None, tiny_clip: str) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        Segmenter(load_model(tiny_clip, device="cpu")).predict_batch([], prompts)
    assert [each.category for each in heard] == ([] if alike is None else [SimilarLabels])
    assert all(f'"{label}"' in str(each.message) for each in heard for label in (alike or "").split(" + "))


def test_synonyms_with_one_embedding_are_no_mistake() -> None:
    segmenter = Segmenter(load_model("photos", device="cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter.predict_batch([], ["red dog;dog red", "cat"])
    with pytest.warns(SameEmbedding) as heard:  # the mean of word vectors knows no order
        segmenter.predict_batch([], ["red dog", "cat black", "dog red;dog", "sky", "black cat"])
    assert str(heard[0].message).startswith('"red dog" and "dog red"; "cat black" and "black cat":')


def test_a_prompt_of_unknown_tokens_is_refused(tower_name: str) -> None:
    model = PACL.untrained(load_backbone(f"timm:test_resnet/random+{tower_name}"), dense="clip", start="paper")
    segmenter = Segmenter(model.eval())
    with pytest.raises(UserError, match="狗"):
        segmenter.predict_batch([], ["dog", "狗"])
    segmenter.predict_batch([], ["dog", "red 狗"])


# --- The photo model ----------------------------------------------------------------------------------------------

KNOWN = (
    "dog, puppy, man, an old man, people, jacket, bicycle, a red car, grass, sea, wet sand, mountain, brick building"
)
ABSENT = (
    "theremin, quasar, algebra, invoice, monday, vaccine, marzipan, a wooden sextant, mri scan, nostalgia, bacteria"
)


def test_the_photo_models_threshold_parts_what_photos_show_from_what_they_do_not() -> None:
    config = HeadConfig.read(shipped_folder("photos") / CONFIG)
    assert config.vocabulary
    vocabulary = Vocabulary(config.vocabulary, load_static_tower(WORDS)[0])
    assert vocabulary.unfamiliar(KNOWN.split(", ")) == []
    assert len(vocabulary.unfamiliar(ABSENT.split(", "))) >= 9


def test_words_in_pieces_are_named() -> None:
    vocabulary = Vocabulary(["dog", "quokka"], load_static_tower(WORDS)[0])
    found = vocabulary.in_pieces(
        ["blankett", "die Decke", "a chairr", "\u0441\u043e\u0431\u0430\u043a\u0430 dog", "blankett"]
    )
    assert list(found) == ["blankett", "decke", "chairr", "\u0441\u043e\u0431\u0430\u043a\u0430"]
    assert found["blankett"] == ["blanket", "t"]
    assert found["\u0441\u043e\u0431\u0430\u043a\u0430"] == [""]
    warning = say_in_pieces(found)
    assert "\n" not in warning
    assert all(word in warning for word in found)
    known = ["two dogs", "blankets", "a doghouse", "cathedrals", "traffic light 12", "a1", "quokkas", "the wildebeest"]
    assert vocabulary.in_pieces(known) == {}


@pytest.mark.parametrize("word", ["skyy", "grasss", "treee", "cowy"])
def test_a_single_letter_more_makes_a_word_unknown(word: str) -> None:
    assert list(Vocabulary(["dog"], load_static_tower(WORDS)[0]).in_pieces([f"a {word}"])) == [word]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("skyy", ("sky",)),
        ("kow", ("cow",)),
        ("hourse", ("horse", "house")),
        ("bycicle", ("bicycle",)),
        ("xylophone", ()),
    ],
)
def test_words_of_a_close_spelling_were_meant(word: str, meant: tuple[str, ...]) -> None:
    known = ["horse", "person", "house", "circle", "bicycle", "cow", "sky"]
    assert close_words(word, known) == meant


def test_slips_come_with_the_word_that_was_meant() -> None:
    segmenter = Segmenter("photos")
    with pytest.warns(UnfamiliarWords) as caught:
        segmenter.prepare(["kow", "skyy", "theremin", "die Decke"])
    far, in_pieces = (str(each.message) for each in caught)
    assert "did you mean 'cow'" in far
    assert "komondor" not in far
    assert "theremin" in far
    assert "did you mean 'sky'" in in_pieces
    (kow,) = segmenter.vocabulary.unfamiliar(["a kow"])
    assert "cow" in kow.meant
    (gras, time) = segmenter.vocabulary.unfamiliar(["beautiful gras", "time"])  # words that the text tower knows
    assert (gras.meant, time.meant) == (("grass",), ())
    with pytest.warns(UnknownWords, match="did you mean 'fish'"):
        Segmenter("bundled").prepare(["a red fihs", "sky"])


def test_no_class_name_of_a_benchmark_is_read_in_pieces() -> None:
    vocabulary = Vocabulary(["dog"], load_static_tower(WORDS)[0])
    folders = ("eval/segmentation/names", "eval/classification/class_names")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.txt") if "wnids" not in file.name]
    names = [prompt for file in files for label in read_classes(file, shared_prompts=True) for prompt in label.prompts]
    assert len(names) > 1000
    assert vocabulary.in_pieces(names) == {}


def test_a_list_in_one_prompt_is_a_warning_of_the_segmenter() -> None:
    with pytest.warns(UnfamiliarWords, match='"cat" "blanket"'):
        Segmenter("photos").prepare(["cat, blanket", "sky"])


def test_words_in_pieces_are_a_warning_of_the_segmenter() -> None:
    segmenter = Segmenter("photos")
    with pytest.warns(UnfamiliarWords) as caught:
        segmenter.prepare(["kat", "blankett"])
    assert ["kat" in str(each.message) for each in caught] == [True, False]
    assert "blankett" in str(caught[1].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter.prepare(["cats", "blankets"])
