"""Sessions without the web framework: what is computed again, what is kept, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from pacl.errors import ArgumentError, UserError
from pacl.models.loading import load_model
from pacl.models.vocabulary import Vocabulary
from pacl.segmentation import image_doubts
from pacl.segmentation.encode import encode_images
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from pacl.webapp import session
from pacl.webapp.session import Choice, ImageStore, KeptImage, Limits, Sessions, parse_words
from tests.colours import noise


def kept(side: int = 10) -> KeptImage:
    return KeptImage(Path("a.png"), np.zeros((side, side, 3), np.uint8), [])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- Store ----------------------------------------------------------------------------------------


def test_the_image_not_used_for_longest_is_forgotten_first() -> None:
    store = ImageStore(max_bytes=700, max_images=10, max_age=60)
    for key in "ab":
        store.put(key, kept())  # 300 bytes each
    assert store.get("a")
    store.put("c", kept())
    assert store.get("b") is None
    assert store.get("a")
    assert store.get("c")
    assert store.nbytes == 600


def test_no_more_images_than_allowed() -> None:
    store = ImageStore(max_bytes=10**9, max_images=2, max_age=60)
    for key in "abcd":
        store.put(key, kept())
    assert (len(store), store.get("b"), store.nbytes) == (2, None, 600)


def test_the_image_put_last_stays_however_large() -> None:
    store = ImageStore(max_bytes=700, max_images=10, max_age=60)
    store.put("a", kept())
    store.put("b", kept(100))
    assert store.get("a") is None
    assert store.get("b")


def test_an_image_is_forgotten_after_a_time_without_use() -> None:
    clock = Clock()
    store = ImageStore(max_bytes=10**6, max_images=10, max_age=60, clock=clock)
    store.put("a", kept())
    store.put("b", kept())
    clock.now = 50
    assert store.get("a")
    clock.now = 100
    assert store.get("b") is None
    assert store.get("a")
    store.drop("a")
    store.drop("a")
    assert len(store) == 0


# --- Words ----------------------------------------------------------------------------------------


def test_words_stand_on_lines_or_between_commas() -> None:
    labels = parse_words("a cat, blanket\n\n dog;puppy=animal ,\n", Limits())
    assert [(label.name, label.prompts) for label in labels] == [
        ("a cat", ("a cat",)),
        ("blanket", ("blanket",)),
        ("animal", ("dog", "puppy")),
    ]


@pytest.mark.parametrize("words", ["cat=", ";", "a," * 51, "a" * 2001])
def test_words_that_make_no_sense_are_refused(words: str) -> None:
    with pytest.raises(UserError):
        parse_words(words, Limits())


# --- Answers --------------------------------------------------------------------------------------

CHOICE = Choice(threshold=0, prior=0, refine=0, stride=8)


@pytest.fixture
def sessions(tiny_clip: str) -> Sessions:
    return Sessions(load_model(tiny_clip), name=tiny_clip)


@pytest.fixture(autouse=True)
def no_note_on_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random model gives nearly all pixels to one label."""
    monkeypatch.setattr(image_doubts, "SWALLOWED", 1.0)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The strides at which images were encoded."""
    seen: list[int | None] = []

    def encode(models: object, images: object, settings: SegmenterSettings, *more: object) -> object:
        seen.append(settings.stride)
        return encode_images(models, images, settings, *more)  # type: ignore[arg-type]

    monkeypatch.setattr("pacl.segmentation.segmenter.encode_images", encode)
    return seen


def test_an_image_is_encoded_once_for_each_stride(sessions: Sessions, photo: Path, encodings: list[int | None]) -> None:
    for words, choice in [
        ("", CHOICE),
        ("dog, cat", CHOICE),
        ("lamp, cat", Choice(0.6, 0.5, 5, 8)),
        ("lamp, cat", Choice(0, 0, 0, 4)),
        ("dog, cat", CHOICE),
    ]:
        sessions.answer("a", photo, words, choice)
    assert encodings == [8, 4]


def test_another_image_takes_the_place_of_the_first(sessions: Sessions, photo: Path, encodings: list[int]) -> None:
    other = photo.with_name("other.png")
    Image.fromarray(noise(64, 40)).save(other)
    sessions.answer("a", photo, "dog, cat", CHOICE)
    found = sessions.answer("a", other, "dog, cat", CHOICE).found
    assert found is not None
    assert (len(sessions.store), found.index.shape, len(encodings)) == (1, noise(64, 40).shape[:2], 2)


def test_sessions_do_not_share_images(sessions: Sessions, photo: Path) -> None:
    sessions.answer("a", photo, "dog, cat", CHOICE)
    assert sessions.last("b") is None
    found = sessions.last("a")
    assert found
    assert found.labels == ["dog", "cat"]
    sessions.close("a")
    assert sessions.last("a") is None


def test_the_last_answer_is_none_for_another_image(sessions: Sessions, photo: Path) -> None:
    found = sessions.answer("a", photo, "sky", sessions.first_choice()).found
    assert found is not None
    assert sessions.last("a") is sessions.last("a", photo) is sessions.last("a", str(photo)) is found
    assert sessions.last("a", photo.with_name("next.png")) is None


def test_a_forgotten_image_is_encoded_again(sessions: Sessions, photo: Path, encodings: list[int]) -> None:
    first = sessions.answer("a", photo, "dog, cat", CHOICE).found
    sessions.store.drop("a")
    again = sessions.answer("a", photo, "dog, cat", CHOICE).found
    assert first is not None
    assert again is not None
    assert (first.index == again.index).all()
    assert len(encodings) == 2


@pytest.mark.parametrize(
    ("choice", "own"),
    [
        (CHOICE, {"prior": 0.0}),
        (Choice(0, -0.5, 10, 8), {"prior": -0.5, "refine": 10}),
        (Choice(0.7, 0, 0, 4), {"background": "threshold:0.7", "stride": 4}),
    ],
)
def test_the_answer_is_the_segmenters(
    sessions: Sessions, photo: Path, tiny_clip: str, choice: Choice, own: dict[str, object]
) -> None:
    segmenter = Segmenter(load_model(tiny_clip), SegmenterSettings(**own))  # type: ignore[arg-type]
    segmenter.set_image(photo)
    expected, found = segmenter.predict(["dog", "cat"]), sessions.answer("a", photo, "dog\ncat", choice).found
    assert found is not None
    assert found.settings == expected.settings
    assert (found.index == expected.index).all()
    assert found.shares == expected.shares


def test_the_page_starts_with_the_settings_given(tiny_clip: str) -> None:
    given = SegmenterSettings(background="threshold:0.3", prior=0.2, refine=5, stride=2, dilations=(1, 2))
    sessions = Sessions(load_model(tiny_clip), given)
    assert sessions.first_choice() == Choice(0.3, 0.2, 5, 2)
    assert sessions.strides == (8, 4, 2)


def test_settings_given_do_not_stand_in_the_way(tiny_clip: str, photo: Path) -> None:
    given = SegmenterSettings(background="threshold:0.9", refine=5, stride=4, dilations=(1, 2))
    sessions = Sessions(load_model(tiny_clip), given)
    found = sessions.answer("a", photo, "dog, cat", CHOICE).found  # all of them off
    assert found is not None
    settings = found.settings
    assert (found.background, settings.refine, settings.dilations, settings.stride) == ("none", 0, None, None)


def test_a_tower_of_one_stride_offers_that_one(monkeypatch: pytest.MonkeyPatch, tiny_clip: str) -> None:
    model = load_model("photos")
    assert Sessions(model).strides == (model.clip.patch,)
    with pytest.raises(ArgumentError) as refused:
        Sessions(model, SegmenterSettings(stride=model.clip.patch // 2))
    assert refused.value.argument == "stride"


def test_a_threshold_without_effect_is_said(sessions: Sessions, photo: Path) -> None:
    with_two = sessions.answer("a", photo, "dog, cat", Choice(0.4, 0, 0, 8))
    assert with_two.found is not None
    assert len(with_two.notes) == 1
    assert with_two.found.background == "none"
    assert sessions.answer("a", photo, "dog, cat", Choice(0.6, 0, 0, 8)).notes == []


def test_a_question_that_fails_leaves_no_answer_to_another_one(sessions: Sessions, photo: Path) -> None:
    assert sessions.answer("a", photo, "dog, cat", CHOICE).found is not None
    with pytest.raises(UserError):
        sessions.answer("a", photo.with_name("other.png"), "dog=", CHOICE)
    assert sessions.last("a") is None


def test_a_label_that_took_nearly_all_is_said_unless_the_prior_asks_for_it(
    sessions: Sessions, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_doubts, "SWALLOWED", 0.0)
    for prior in (0.0, -0.3, -1.0):
        (note,) = sessions.answer("a", photo, "dog, cat", replace(CHOICE, prior=prior)).notes
        assert " took " in note
        assert image_doubts.other_prior(prior, "a prior of") in note
    assert sessions.answer("a", photo, "dog, cat", replace(CHOICE, prior=0.5)).notes == []


@pytest.mark.parametrize("name", ["bundled", "mine"])
def test_a_photo_is_none_of_the_scenes_that_the_bundled_model_knows(photo: Path, name: str) -> None:
    sessions = Sessions(load_model("bundled"), name=name)
    notes = sessions.answer("a", photo, "", sessions.first_choice()).notes
    assert [photo.name in note for note in notes] == [True] * (name == "bundled")


def test_the_words_that_the_model_knows_are_embedded_once(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(load_model("photos"))
    embedded: list[int] = []

    def embed(self: Vocabulary, texts: Sequence[str]) -> Tensor:
        embedded.append(len(texts))
        return original(self, texts)

    original = Vocabulary._embed
    monkeypatch.setattr(Vocabulary, "_embed", embed)
    choice = sessions.first_choice()
    for prior in (0.0, -0.3):
        sessions.answer("a", photo, "zyzzyva, dog", replace(choice, prior=prior))
    assert embedded.count(len(sessions.model.config.vocabulary)) == 1


def test_warnings_are_notes(photo: Path) -> None:
    sessions = Sessions(load_model("bundled"))
    stride = sessions.first_choice().stride
    answer = sessions.answer("a", photo, "zyzzyva, red fish, a red fish", Choice(0, 0, 0, stride))
    assert any("zyzzyva" in note for note in answer.notes)


def test_what_reading_an_image_warns_of_stays_a_note(sessions: Sessions, tmp_path: Path) -> None:
    path = tmp_path / "two.gif"
    frames = [Image.fromarray(noise(40, 40)).quantize(), Image.fromarray(noise(40, 40, 1) // 2).quantize()]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    for _ in range(2):
        (note,) = sessions.answer("a", path, "dog, cat", CHOICE).notes
        assert "two.gif" in note
        assert str(tmp_path) not in note


@pytest.mark.parametrize("case", ["broken", "empty", "missing", "too many bytes", "too many pixels"])
def test_an_image_that_cannot_be_used_is_one_line_without_its_folder(
    tiny_clip: str, photo: Path, case: str, encodings: list[int]
) -> None:
    limits = {"too many bytes": Limits(upload_bytes=100), "too many pixels": Limits(pixels=100)}.get(case, Limits())
    path = photo.with_name("bad.png")
    if case != "missing":
        shutil.copy(photo, path)
    if case in ("broken", "empty"):
        path.write_bytes(photo.read_bytes()[: 200 if case == "broken" else 0])
    sessions = Sessions(load_model(tiny_clip), limits=limits)
    encodings.clear()  # that of the strides
    with pytest.raises(UserError) as caught:
        sessions.answer("a", path, "dog, cat", CHOICE)
    assert "bad.png" in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert encodings == []
    assert len(sessions.store) == 0


def test_memory_that_runs_out_is_one_line(sessions: Sessions, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(session.Segmenter, "set_image", full)
    with pytest.raises(UserError, match="memory"):
        sessions.answer("a", photo, "dog", CHOICE)
