from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pacl.models.embedder import LEAST, ROWS, ConSE, PatchEmbedder, SideBySide, class_texts, smooth
from pacl.models.towers.base import Classifier
from tests.tensors import Largest


def classifier(classes: int = 5, features: int = 4) -> Classifier:
    torch.manual_seed(0)
    names = [(f"name {k}", "a synonym") for k in range(classes)]
    definitions = [f"definition {k}" for k in range(classes)]
    return Classifier(torch.randn(classes, features), torch.randn(classes), names, definitions)


def test_the_papers_block_for_vit_b16_has_its_number_of_parameters() -> None:
    embedder = PatchEmbedder(768, 512)
    assert sum(parameter.numel() for parameter in embedder.parameters()) == 1_050_112


def test_clip_start_is_the_projection() -> None:
    projection = torch.randn(6, 4)
    tokens = torch.randn(2, 5, 6)
    torch.testing.assert_close(PatchEmbedder.start_clip(projection)(tokens), tokens @ projection)


def test_clip_start_can_learn() -> None:
    """The zero layer gets a gradient at step 0, and after one step the layer before it does too."""
    embedder = PatchEmbedder.start_clip(torch.randn(6, 4))
    optimizer = torch.optim.SGD(embedder.parameters(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        embedder(torch.randn(8, 6)).square().sum().backward()
        gradients = [layer.weight.grad.abs().max() for layer in (embedder.main[0], embedder.main[2])]
        assert gradients[1] > 0
        assert (gradients[0] > 0) == (step > 0)
        optimizer.step()


def test_paper_start_is_seeded_and_random() -> None:
    torch.manual_seed(0)
    first = PatchEmbedder(6, 4, hidden=10)
    torch.manual_seed(0)
    again = PatchEmbedder(6, 4, hidden=10)
    assert torch.equal(first.skip.weight, again.skip.weight)
    assert first.main[0].weight.shape == (10, 6)
    assert first.skip.weight.std() > 0


def test_conse_is_the_mean_of_the_likely_classes_less_that_of_all() -> None:
    known = classifier()
    embeddings = F.normalize(torch.randn(5, 3), dim=-1)
    tokens = torch.randn(2, 7, 6)  # the classifier reads the last 4 of 6 columns
    conse = ConSE(known, embeddings.shape[1])
    conse.embeddings.copy_(embeddings)
    found = conse(tokens)
    logits = tokens[1, 3, -4:].double() @ known.weight.double().T + known.bias.double()
    mixed = sum(p * e for p, e in zip(logits.softmax(0), embeddings.double(), strict=True))
    torch.testing.assert_close(found[1, 3].double(), mixed / mixed.norm() - embeddings.double().mean(0))


def test_conse_keeps_the_embeddings_and_not_the_towers_weights() -> None:
    conse = ConSE(classifier(), 3)
    assert set(conse.state_dict()) == {"embeddings"}
    assert not list(conse.parameters())


def test_class_texts_have_name_and_definition() -> None:
    assert class_texts(classifier(2)) == ["name 0, definition 0", "name 1, definition 1"]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_side_by_side_adds_the_products(share: float) -> None:
    patches, texts = F.normalize(torch.randn(6, 3), dim=-1), F.normalize(torch.randn(4, 3), dim=-1)
    of_patches, of_texts = nn.Linear(3, 5), nn.Linear(3, 5)
    v = SideBySide(nn.Identity(), of_patches, share)(patches)
    t = SideBySide(nn.Identity(), of_texts, share)(texts)
    second = F.normalize(of_patches(patches), dim=-1) @ F.normalize(of_texts(texts), dim=-1).T
    torch.testing.assert_close(v @ t.T, share * patches @ texts.T + (1 - share) * second)


def test_smoothing_averages_over_patches_that_look_alike() -> None:
    vectors, tokens = torch.randn(2, 5, 3), torch.randn(2, 5, 6)
    found = smooth(vectors, tokens, 0.2)
    centred = [token - tokens[1].mean(0) for token in tokens[1]]
    cosines = torch.stack([F.cosine_similarity(centred[2], other, dim=0) for other in centred])
    expected = ((cosines / 0.2).softmax(0)[:, None] * vectors[1]).sum(0)
    torch.testing.assert_close(found[1, 2], expected)


@pytest.mark.parametrize("temperature", [LEAST / 2, LEAST, 0.2, 3.0])
@pytest.mark.parametrize("patches", [1, ROWS, 2 * ROWS + 3])
def test_smoothing_by_rows_is_attention(patches: int, temperature: float) -> None:
    torch.manual_seed(0)
    tokens, vectors = torch.randn(2, patches, 8), torch.randn(2, patches, 5)
    tokens[1, 0] = tokens[1].mean(dim=0)  # like no other
    features = F.normalize(tokens - tokens.mean(dim=1, keepdim=True), dim=-1)
    expected = (features @ features.mT / temperature).softmax(dim=-1) @ vectors
    torch.testing.assert_close(smooth(vectors, tokens, temperature), expected, atol=1e-5, rtol=1e-5)


def test_tokens_without_differences_give_the_mean() -> None:
    vectors = torch.randn(1, 6, 3)
    found = smooth(vectors, torch.ones(1, 6, 4), LEAST)
    torch.testing.assert_close(found, vectors.mean(dim=1, keepdim=True).expand(1, 6, 3))


def test_smoothing_keeps_no_weight_of_every_pair() -> None:
    with Largest() as found:
        smooth(torch.randn(1, 8 * ROWS, 4), torch.randn(1, 8 * ROWS, 4), 0.2)
    assert found.elements <= 8 * ROWS * ROWS


def test_smoothing_leaves_alone_what_is_alike_already() -> None:
    tokens = torch.randn(1, 6, 8)
    torch.testing.assert_close(smooth(torch.ones(1, 6, 3), tokens, 0.1), torch.ones(1, 6, 3))
