"""The contrastive loss against a loop over its definition."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pacl.training.loss import contrastive_loss, in_batch_accuracy


def by_loops(logits: Tensor, positives: Tensor) -> float:
    """The definition in plain Python: one direction is a list of rows, the other of columns."""
    sides = []
    for scores, right in (
        (logits.tolist(), positives.tolist()),
        (logits.T.tolist(), positives.T.tolist()),
    ):
        terms = []
        for row, is_right in zip(scores, right, strict=True):
            log_sum = math.log(sum(math.exp(x) for x in row))
            own = [log_sum - x for x, yes in zip(row, is_right, strict=True) if yes]
            if own:
                terms.append(sum(own) / len(own))
        sides.append(sum(terms) / len(terms))
    return sum(sides) / 2


def draw(B: int, T: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(B, T, dtype=torch.float64, generator=generator)
    positives = torch.rand(B, T, generator=generator) < 0.3
    positives[torch.arange(B), torch.arange(B) % T] = True
    return logits, positives


@pytest.mark.parametrize(("B", "T"), [(6, 6), (4, 9), (9, 4), (1, 1), (1, 5), (5, 1)])
def test_loss_is_the_definition(B: int, T: int) -> None:
    for seed in range(3):
        logits, positives = draw(B, T, seed)
        assert contrastive_loss(logits, positives).item() == pytest.approx(by_loops(logits, positives), rel=1e-12)


def test_images_and_texts_without_a_right_partner_are_left_out_but_compete() -> None:
    logits, positives = draw(5, 7)
    positives[2] = False
    positives[:, 4] = False
    loss = contrastive_loss(logits, positives)
    assert loss.item() == pytest.approx(by_loops(logits, positives), rel=1e-12)
    logits[:, 4] += 10  # nobody's text, yet more attractive now
    assert contrastive_loss(logits, positives) > loss


def test_default_mask_is_the_diagonal_and_is_clips_loss() -> None:
    logits, _ = draw(6, 6)
    loss = contrastive_loss(logits)
    assert torch.equal(loss, contrastive_loss(logits, torch.eye(6, dtype=torch.bool)))
    right = torch.arange(6)
    clip = (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2
    torch.testing.assert_close(loss, clip, rtol=1e-12, atol=0)


def test_gradient() -> None:
    logits, positives = draw(4, 6)
    positives[1] = False
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(x, positives), logits.requires_grad_())


def test_equal_logits_give_ln_b_and_extreme_ones_stay_finite() -> None:
    assert contrastive_loss(torch.zeros(8, 8)).item() == pytest.approx(math.log(8))
    logits = (1e4 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    loss = contrastive_loss(logits)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_text_that_cannot_be_chosen_does_no_harm() -> None:
    """Padding by -inf leaves value and gradient of the rest as they are."""
    logits, _ = draw(4, 4)
    padded = torch.cat([logits, torch.full((4, 1), -math.inf, dtype=logits.dtype)], dim=1)
    positives = torch.eye(4, 5, dtype=torch.bool)
    rows = [x[positives[:, : x.shape[1]]] for x in (logits.log_softmax(1), padded.log_softmax(1))]
    torch.testing.assert_close(*rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype: torch.dtype) -> None:
    logits, positives = draw(40, 60)
    logits = logits.to(dtype)
    loss = contrastive_loss(logits, positives)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_loops(logits.double(), positives), rel=1e-5)


def test_accuracy_counts_images_that_choose_a_right_text() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 1.0, 2.0], [9.0, 0.0, 1.0]])
    assert in_batch_accuracy(logits).item() == pytest.approx(1 / 3)
    positives = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.bool)
    assert in_batch_accuracy(logits, positives).item() == 1  # the third has no right text and is not counted


def test_errors_say_what_is_wrong() -> None:
    logits = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="3 images and 4 texts"):
        contrastive_loss(logits)
    with pytest.raises(ValueError, match=r"bool \[3, 4\], got \[3, 3\]"):
        contrastive_loss(logits, torch.eye(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"got \[3, 4\] torch\.float32"):
        contrastive_loss(logits, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="positives"):
        contrastive_loss(logits, torch.zeros(3, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"floating \[B, T\]"):
        in_batch_accuracy(torch.zeros(3, dtype=torch.int64))
