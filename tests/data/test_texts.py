from random import Random

import torch

from pacl.data.batches import pair_texts


def right(described, wrap=None):
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


def test_phrases_stand_beside_the_captions_and_are_right_where_the_own_caption_names_them():
    described = [
        [("a red star on grass", ("a red star", "grass"))],
        [("grass with a blue fish", ("a blue fish", "grass"))],
        [("a red star", ("a red star",))],
    ]
    captions = [caption for own in described for caption, _ in own]
    texts, pairs = right(described, str)
    assert texts == [*captions, "grass", "a blue fish"]  # "a red star" is already a caption: merged
    assert pairs == {(i, text) for i, own in enumerate(described) for caption, ps in own for text in (caption, *ps)}
    assert right(described)[0] == captions  # and without a template no phrase is a text


def test_all_captions_of_an_image_are_right_for_it():
    texts, pairs = right([[("a", ("x",)), ("b", ())], [], [("b", ("x", "y"))]], "a photo of {}".format)
    assert texts == ["a", "b", "a photo of x", "a photo of y"]
    photo = "a photo of "
    assert pairs == {(0, "a"), (0, "b"), (0, f"{photo}x"), (2, "b"), (2, f"{photo}x"), (2, f"{photo}y")}


def test_no_images_and_no_texts():
    assert [len(each) for each in pair_texts([])] == [0, 0]
    texts, positives = pair_texts([[], []])
    assert texts == []
    assert positives.shape == (2, 0)


def test_right_pairs_are_those_of_a_count_by_hand():
    rng = Random(0)
    described = [
        [(f"caption {rng.randrange(6)}", [f"n{rng.randrange(4)}" for _ in range(rng.randrange(3))]) for _ in range(2)]
        for _ in range(12)
    ]
    texts, positives = pair_texts(described, "<{}>".format)
    for image, own in enumerate(described):
        for text, found in zip(texts, positives[image].tolist(), strict=True):
            assert found == any(text == caption or text in {f"<{p}>" for p in phrases} for caption, phrases in own)


def test_who_is_named_by_another_word_is_a_person_too() -> None:
    described = [[("A skier.", ("young skier", "snow"))], [("Snow.", ("snow",))], [("A person.", ("person",))]]
    texts, positives = pair_texts(described, "a photo of a {}.".format)
    person = positives[:, texts.index("a photo of a person.")]
    assert person.tolist() == [True, False, True]
