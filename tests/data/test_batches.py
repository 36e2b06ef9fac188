from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from pacl.data.batches import Batches, ImageBatches, pair_texts, stack_images
from pacl.data.crop import SquareCrop
from pacl.data.sampling import StepSampler
from pacl.data.token_stamp import Stamp
from pacl.data.token_store import TokenStore
from pacl.errors import UserError

STAMP = Stamp(
    backbone="none",
    weights="",
    quick_gelu=False,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    dense="value",
    size=8,
    cut="centre",
    dtype="float16",
    images=0,
    source="",
    patches=2,
    width=3,
)
TEMPLATES = ("1 {}", "2 {}", "3 {}", "4 {}")


class Pairs:
    """Even images whose red and green say source and number; three captions each, of few words and nouns."""

    def __init__(self, number, count, broken=(), silent=()):
        self.number, self.count, self.broken, self.silent = number, count, broken, silent

    def __len__(self):
        return self.count

    def name(self, index):
        return f"{self.number}/{index}.png"

    def image(self, index, short_side=None):
        if index in self.broken:
            raise UserError(f"{self.name(index)} is broken")
        return np.full((8, 12, 3), (self.number, index, 0), np.uint8)

    def descriptions(self, index):
        if index in self.silent:
            return []
        rng = Random(f"{self.number}/{index}")
        nouns = [tuple(rng.sample(("dog", "cat", "red ball", "tree"), rng.randrange(3))) for _ in range(3)]
        return [(f"{rng.choice('ab')} {' and '.join(own)}", own) for own in nouns]


SOURCES = [Pairs(0, 10), Pairs(1, 23)]
CENTRE = SquareCrop()


def draws(sources, batch=8, **settings):
    return StepSampler([len(source) for source in sources], [None] * len(sources), batch, **settings)


def epoch(sources=SOURCES, batch=8, crop=CENTRE, number=0, seed=0, sampler=None, **settings):
    sampler = sampler or {}
    made = Batches(sources, 8, crop, seed=seed, **settings)
    order = draws(sources, batch, seed=seed, **sampler)
    order.epoch = number
    return [made[draw] for draw in order]


def images(batch):
    """Source and number of every image of a batch."""
    return [(int(k), int(i)) for k, i in batch["images"][:, :2, 0, 0]]


def right(batch):
    """The right texts of every image of a batch."""
    texts = batch["texts"]
    return [{texts[t] for t in row.nonzero().flatten().tolist()} for row in batch["positives"]]


def explains(own, described, wrapped):
    """Whether a image's right texts are one of its captions and that caption's phrases in their templates."""
    return any(own == {caption, *(wrapped.get(phrase) for phrase in phrases)} for caption, phrases in described)


# --- What is in a batch -------------------------------------------------------------------------------------------


def test_batches_hold_what_modules_take():
    batches = epoch()
    assert len(batches) == 4
    for batch in batches:
        assert set(batch) == {"images", "texts", "positives", "skipped", "seed"}
        assert batch["images"].shape == (8, 3, 8, 8)
        assert batch["images"].dtype == torch.uint8
        assert batch["images"].is_contiguous()
        assert batch["positives"].shape == (8, len(batch["texts"]))
        assert batch["positives"].dtype == torch.bool
        assert len(set(batch["texts"])) == len(batch["texts"])
        assert batch["positives"].any(0).all()
        assert batch["skipped"] == []


def test_without_templates_every_image_has_one_of_its_captions():
    seen = set()
    for number in range(4):
        for batch in epoch(number=number):
            for (k, i), own in zip(images(batch), right(batch), strict=True):
                (caption,) = own
                assert caption in {text for text, _ in SOURCES[k].descriptions(i)}
                seen.add((k, i, caption))
    assert len(seen) > 33 * 1.5  # not always the same one


def test_right_texts_are_a_caption_and_its_phrases_each_in_one_template_a_step():
    ways = {}
    for number in range(6):
        for batch in epoch(templates=TEMPLATES, number=number):
            captions = {text for source in SOURCES for i in range(len(source)) for text, _ in source.descriptions(i)}
            phrases = [text for text in batch["texts"] if text not in captions]
            wrapped = {text[2:]: text for text in phrases}
            assert len(wrapped) == len(phrases)
            for (k, i), own in zip(images(batch), right(batch), strict=True):
                assert explains(own, SOURCES[k].descriptions(i), wrapped)
            for phrase, text in wrapped.items():
                ways.setdefault(phrase, set()).add(text)
    assert {phrase: len(texts) for phrase, texts in ways.items()} == dict.fromkeys(
        ("dog", "cat", "red ball", "tree"), 4
    )


def test_all_captions_are_right_for_their_image():
    for batch in epoch(all_captions=True, sampler={"shuffle": False, "drop_last": False}):
        for (k, i), own in zip(images(batch), right(batch), strict=True):
            assert own == {text for text, _ in SOURCES[k].descriptions(i)}


def test_phrases_keep_one_article():
    made = Batches([], 8, SquareCrop(), templates=("a photo of the {}.",))
    wrap = made.wrapper("0/0")
    assert wrap is not None
    assert wrap("a dog") == "a photo of the dog."
    assert Batches([], 8, SquareCrop()).wrapper("0/0") is None


# --- What is random follows seed, epoch and slot -------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_make_the_rows_that_one_would(ranks):
    settings = {"crop": SquareCrop("random", flip=0.5, colour=0.4), "templates": TEMPLATES, "number": 1}
    whole = epoch(**settings)
    parts = [epoch(**settings, sampler={"rank": rank, "ranks": ranks}) for rank in range(ranks)]
    for step, batch in enumerate(whole):
        for rank in range(ranks):
            part = parts[rank][step]
            assert torch.equal(part["images"], batch["images"][rank::ranks])
            assert right(part) == right(batch)[rank::ranks]


def test_batches_are_made_again_and_not_touched_by_global_chance():
    settings = {"crop": SquareCrop("random", colour=0.4), "templates": TEMPLATES}
    first = epoch(**settings)
    torch.manual_seed(5)
    again = epoch(**settings)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["images"], other["images"])
        assert one["texts"] == other["texts"]
    for change in ({"seed": 1}, {"number": 1}):
        assert [batch["texts"] for batch in epoch(**{**settings, **change})] != [batch["texts"] for batch in first]


class Same(Pairs):
    """One image and its ten captions, over and over."""

    def image(self, index, short_side=None):
        return np.full((8, 8, 3), 100, np.uint8)

    def descriptions(self, index):
        return [(f"caption {n}", ()) for n in range(10)]


def test_every_slot_has_its_own_chance():
    (batch,) = epoch([Same(0, 30)], 30, SquareCrop(colour=0.5))
    assert len(batch["texts"]) > 6
    assert len({image.numpy().tobytes() for image in batch["images"]}) > 20


# --- What cannot be used ------------------------------------------------------------------------------------------

FLAWED = [Pairs(0, 10, broken=(2, 5)), Pairs(1, 6, silent=(0,), broken=(5,))]
REASONS = ["0/2.png is broken", "0/5.png is broken", "1/0.png has no caption", "1/5.png is broken"]


def test_bad_samples_are_left_out_and_named():
    batches = epoch(FLAWED, 4)
    assert sorted(reason for batch in batches for reason in batch["skipped"]) == REASONS
    good = [image for batch in batches for image in images(batch)]
    assert sorted(good) == [(0, i) for i in range(10) if i not in (2, 5)] + [(1, i) for i in range(1, 5)]
    for batch in batches:
        assert len(batch["images"]) + len(batch["skipped"]) == 4
        assert len(batch["positives"]) == len(batch["images"])
        for (k, i), own in zip(images(batch), right(batch), strict=True):
            assert len(own) == 1
            assert own <= {text for text, _ in FLAWED[k].descriptions(i)}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("flaw", ["broken", "silent"])
def test_a_batch_of_nothing_but_bad_samples_is_an_empty_one(flaw, stored):
    sources = [Pairs(0, 4, **{flaw: range(4)})]
    (batch,) = epoch(sources, 4, stores=[store(sources[0])] if stored else None)
    vision = batch["tokens"] if stored else batch["images"]
    assert vision.shape == ((0, 2, 3) if stored else (0, 3, 8, 8))
    assert batch["texts"] == []
    assert batch["positives"].shape == (0, 0)
    assert len(batch["skipped"]) == 4


# --- Kept tokens --------------------------------------------------------------------------------------------------


def store(source):
    """Tokens whose values say source, number and patch."""

    def encode(indices):
        good = [i for i in indices if i not in source.broken]
        tokens = torch.tensor([[[source.number, i, patch] for patch in range(2)] for i in good]).view(-1, 2, 3)
        yield tokens.half(), {i: f"{source.name(i)} is broken" for i in indices if i in source.broken}

    return TokenStore.in_memory(replace(STAMP, images=len(source)), encode)


@pytest.mark.parametrize("templates", [(), TEMPLATES])
def test_tokens_stand_where_the_images_would(templates):
    kept = epoch(FLAWED, 5, stores=[store(source) for source in FLAWED], templates=templates)
    read = epoch(FLAWED, 5, templates=templates)
    for with_tokens, with_images in zip(kept, read, strict=True):
        assert set(with_tokens) == {"tokens", "texts", "positives", "skipped", "seed"}
        tokens = with_tokens["tokens"]
        assert tokens.shape == (len(with_images["images"]), 2, 3)
        assert tokens.dtype == torch.float16
        assert [(int(k), int(i)) for k, i in tokens[:, 0, :2]] == images(with_images)
        assert tokens[:, :, 2].tolist() == [[0, 1]] * len(tokens)
        assert with_tokens["texts"] == with_images["texts"]
        assert torch.equal(with_tokens["positives"], with_images["positives"])
        assert with_tokens["skipped"] == with_images["skipped"]


# --- Images of one source -----------------------------------------------------------------------------------------


def test_images_come_as_asked_for_with_what_is_wrong():
    found = ImageBatches(FLAWED[0], [[0, 1], [5, 4, 2], [2]], SquareCrop("pad"), 6)
    assert len(found) == 3
    images, reasons = zip(*(found[batch] for batch in range(3)), strict=True)
    assert [each.shape for each in images] == [(2, 3, 6, 6), (1, 3, 6, 6), (0, 3, 6, 6)]
    assert images[1][0, 1, 2, 2] == 4
    assert reasons == ({}, {5: REASONS[1], 2: REASONS[0]}, {2: REASONS[0]})


def test_images_are_stacked_channels_first():
    image = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    stacked = stack_images([image, image], 2)
    assert stacked.shape == (2, 3, 2, 2)
    assert stacked[1, 2, 1, 0] == image[1, 0, 2]
    assert stack_images([], 4).shape == (0, 3, 4, 4)


# --- Texts and positives -----------------------------------------------------------------------------------------


def paired(described, wrap=None):
    texts, positives = pair_texts(described, wrap)
    assert positives.dtype == torch.bool
    assert positives.shape == (len(described), len(texts))
    assert len(set(texts)) == len(texts)
    return texts, {(i, texts[t]) for i, t in positives.nonzero().tolist()}


def test_captions_alone_are_the_diagonal():
    texts, positives = pair_texts([[("one", ())], [("two", ())], [("three", ())]])
    assert texts == ["one", "two", "three"]
    assert torch.equal(positives, torch.eye(3, dtype=torch.bool))


def test_equal_captions_are_one_text_of_both_images():
    texts, positives = pair_texts([[("same", ())], [("other", ())], [("same", ())]])
    assert texts == ["same", "other"]
    assert positives.tolist() == [[True, False], [False, True], [True, False]]


def test_phrases_are_positives_of_the_images_whose_captions_have_them():
    described = [
        [("a red star on grass", ("a red star", "grass"))],
        [("grass with a blue fish", ("a blue fish", "grass"))],
        [("a red star", ("a red star",))],
    ]
    captions = [caption for own in described for caption, _ in own]
    texts, pairs = paired(described, str)
    assert texts == [*captions, "grass", "a blue fish"]  # "a red star" is already a caption: merged
    assert pairs == {(i, text) for i, own in enumerate(described) for caption, ps in own for text in (caption, *ps)}
    assert paired(described)[0] == captions  # and without a template no phrase is a text


def test_all_captions_of_an_image_are_positives():
    texts, pairs = paired([[("a", ("x",)), ("b", ())], [], [("b", ("x", "y"))]], "a photo of {}".format)
    assert texts == ["a", "b", "a photo of x", "a photo of y"]
    photo = "a photo of "
    assert pairs == {(0, "a"), (0, "b"), (0, f"{photo}x"), (2, "b"), (2, f"{photo}x"), (2, f"{photo}y")}


def test_no_images_and_no_texts():
    assert [len(each) for each in pair_texts([])] == [0, 0]
    texts, positives = pair_texts([[], []])
    assert texts == []
    assert positives.shape == (2, 0)


def test_positives_are_those_of_a_count_by_hand():
    rng = Random(0)
    described = [
        [(f"caption {rng.randrange(6)}", [f"n{rng.randrange(4)}" for _ in range(rng.randrange(3))]) for _ in range(2)]
        for _ in range(12)
    ]
    texts, positives = pair_texts(described, "<{}>".format)
    for image, own in enumerate(described):
        for text, found in zip(texts, positives[image].tolist(), strict=True):
            assert found == any(text == caption or text in {f"<{p}>" for p in phrases} for caption, phrases in own)


def test_other_words_for_persons_count_as_person() -> None:
    described = [[("A skier.", ("young skier", "snow"))], [("Snow.", ("snow",))], [("A person.", ("person",))]]
    texts, positives = pair_texts(described, "a photo of a {}.".format)
    person = positives[:, texts.index("a photo of a person.")]
    assert person.tolist() == [True, False, True]
