from __future__ import annotations

import torch

from pacl.models.embedder import PatchEmbedder


def test_the_papers_block_for_vit_b16_has_its_number_of_parameters() -> None:
    embedder = PatchEmbedder.start_paper(768, 512)
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
    first = PatchEmbedder.start_paper(6, 4, hidden=10)
    torch.manual_seed(0)
    again = PatchEmbedder.start_paper(6, 4, hidden=10)
    assert torch.equal(first.skip.weight, again.skip.weight)
    assert first.main[0].weight.shape == (10, 6)
    assert first.skip.weight.std() > 0
