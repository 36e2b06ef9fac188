"""phi against its formula: every implementation, dtype and ragged shape, its gradients, its memory, and the trap."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from pacl.models import compatibility as module
from pacl.models.compatibility import compatibility, pooling_entropy
from pacl.training.loss import contrastive_loss
from tests.tensors import Largest

IMPLEMENTATIONS = ("reference", "chunked", "auto")

# B, T, P, D: B != T, each of them 1, and both ways of norms (T D / (T + D) below and above P).
SHAPES = [(5, 7, 3, 16), (3, 11, 9, 4), (1, 6, 5, 8), (6, 1, 5, 8), (4, 3, 1, 8), (1, 1, 1, 1), (7, 40, 6, 32)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several ragged chunks of images and of texts even at the sizes of tests; `auto` takes either way."""
    monkeypatch.setattr(module, "CPU_CHUNK_BYTES", 5_000)
    monkeypatch.setattr(module, "SMALL_BYTES", 2_000)


def unit_vectors(
    B: int, T: int, P: int, D: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    patches = normalize(torch.randn(B, P, D, dtype=torch.float64, generator=draw), dim=-1)
    texts = normalize(torch.randn(T, D, dtype=torch.float64, generator=draw), dim=-1)
    return patches.to(dtype), texts.to(dtype)


def phi_and_gradients(patches: Tensor, texts: Tensor, temperature: float, **options: Any) -> list[Tensor]:
    """phi and the gradients of a fixed weighting of it by patches, texts and temperature."""
    inputs = [x.detach().clone().requires_grad_() for x in (patches, texts)]
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    phi = compatibility(*inputs, temperature=tau, **options)
    weights = torch.sin(torch.arange(phi.numel(), dtype=torch.float64) + 1).view_as(phi)
    (phi * weights).sum().backward()
    return [phi.detach(), *(x.grad for x in (*inputs, tau))]  # type: ignore[list-item]


def pair_by_pair(patches: Tensor, texts: Tensor, temperature: float, cosine: bool) -> Tensor:
    """The definition, one (image, text) pair at a time."""
    rows = []
    for v in patches:
        for t in texts:
            s = torch.stack([torch.dot(v_p, t) for v_p in v])
            a = torch.exp(s / temperature) / torch.exp(s / temperature).sum()
            pooled = sum(a_p * v_p for a_p, v_p in zip(a, v, strict=True))
            rows.append(cosine_similarity(pooled, t, dim=0) if cosine else torch.dot(pooled, t))
    return torch.stack(rows).view(len(patches), len(texts))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.1, math.inf])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_is_the_definition(shape: tuple, temperature: float, cosine: bool, impl: str) -> None:
    patches, texts = unit_vectors(*shape)
    expected = pair_by_pair(patches, texts, temperature, cosine)
    for given in (temperature, torch.tensor([temperature], dtype=torch.float64)):
        phi = compatibility(patches, texts, temperature=given, cosine=cosine, impl=impl)
        torch.testing.assert_close(phi, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.1, math.inf])
@pytest.mark.parametrize("shape", SHAPES)
def test_chunked_equals_reference_in_value_and_gradient(shape: tuple, temperature: float, cosine: bool) -> None:
    patches, texts = unit_vectors(*shape)
    expected = phi_and_gradients(patches, texts, temperature, cosine=cosine, impl="reference")
    result = phi_and_gradients(patches, texts, temperature, cosine=cosine, impl="chunked")
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize("shape", [(5, 7, 3, 16), (9, 33, 49, 64), (8, 64, 49, 256), (2, 5, 196, 64)])
def test_chunked_is_as_exact_in_float32_as_the_reference(shape: tuple, temperature: float, cosine: bool) -> None:
    """By the root mean square over several draws: one draw's error may be small by luck."""
    errors: dict[str, list[Tensor]] = {"reference": [], "chunked": []}
    truths = []
    for seed in range(8):
        patches, texts = unit_vectors(*shape, dtype=torch.float32, seed=seed)
        both = patches.double(), texts.double()
        truth = phi_and_gradients(*both, temperature, cosine=cosine, impl="reference")
        truths.append(torch.stack([x.square().mean() for x in truth]))
        for impl, of_impl in errors.items():
            result = phi_and_gradients(patches, texts, temperature, cosine=cosine, impl=impl)
            assert result[0].dtype == torch.float32
            squares = [(x - y).square().mean() for x, y in zip(result, truth, strict=True)]
            of_impl.append(torch.stack(squares))
    reference, chunked, size = (
        torch.stack(x).mean(dim=0).sqrt() for x in (errors["reference"], errors["chunked"], truths)
    )
    assert (chunked <= 3 * reference + torch.finfo(torch.float32).eps * size).all()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype: torch.dtype, impl: str) -> None:
    patches, texts = unit_vectors(5, 9, 20, 32, dtype=dtype)
    exact = phi_and_gradients(patches.double(), texts.double(), 0.1, impl="reference")
    phi, d_patches, d_texts, _ = phi_and_gradients(patches, texts, 0.1, impl=impl)
    assert phi.dtype == torch.float32
    assert d_patches.dtype == d_texts.dtype == dtype
    torch.testing.assert_close(phi.double(), exact[0], rtol=0, atol=2e-6)
    for gradient, truth in ((d_patches, exact[1]), (d_texts, exact[2])):
        # Rounding the gradient itself once is all that half precision may cost.
        torch.testing.assert_close(gradient.double(), truth, rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_autocast_changes_nothing(impl: str) -> None:
    patches, texts = unit_vectors(5, 9, 20, 32, dtype=torch.float32)
    expected = phi_and_gradients(patches, texts, 0.1, impl=impl)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        phi = compatibility(patches, texts, temperature=0.1, impl=impl)
        under = phi_and_gradients(patches, texts, 0.1, impl=impl) if impl == "chunked" else expected
    assert torch.equal(phi, expected[0])
    assert all(map(torch.equal, under, expected))


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("shape", [(3, 4, 5, 3), (2, 20, 3, 12)])
def test_gradcheck(shape: tuple, cosine: bool) -> None:
    patches, texts = unit_vectors(*shape)
    tau = torch.tensor(0.3, dtype=torch.float64)

    def phi(*inputs: Tensor) -> Tensor:
        return compatibility(inputs[0], inputs[1], temperature=inputs[2], cosine=cosine, impl="chunked")

    assert torch.autograd.gradcheck(phi, [x.requires_grad_() for x in (patches, texts, tau)])


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("alone", [0, 1])
def test_gradient_for_one_input_only(alone: int, impl: str) -> None:
    inputs = list(unit_vectors(5, 7, 6, 8))
    expected = phi_and_gradients(*inputs, 1.0, impl="reference")[1 + alone]
    inputs[alone].requires_grad_()
    phi = compatibility(inputs[0], inputs[1], impl=impl)
    weights = torch.sin(torch.arange(phi.numel(), dtype=torch.float64) + 1).view_as(phi)
    (phi * weights).sum().backward()
    torch.testing.assert_close(inputs[alone].grad, expected, rtol=0, atol=1e-12)
    assert inputs[1 - alone].grad is None


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_mean_pooling_takes_a_short_cut_with_the_same_gradient(dtype: torch.dtype, cosine: bool) -> None:
    results = []
    for impl in ("reference", "chunked"):
        patches, texts = (x.requires_grad_() for x in unit_vectors(5, 30, 6, 8, dtype=dtype))
        phi = compatibility(patches, texts, temperature=math.inf, cosine=cosine, impl=impl)
        phi.square().sum().backward()
        results.append((phi, patches.grad, texts.grad))
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype
        tolerance = 1e-13 if one.dtype == torch.float64 else 1e-6
        relative = torch.finfo(dtype).eps if one.dtype == dtype else 0
        torch.testing.assert_close(one, other, rtol=relative, atol=tolerance)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_non_contiguous_inputs(impl: str) -> None:
    patches, texts = unit_vectors(5, 7, 6, 8)
    expected = phi_and_gradients(patches, texts, 0.1, impl=impl)
    strided = patches.permute(2, 1, 0).contiguous().permute(2, 1, 0), texts.T.contiguous().T
    assert not any(x.is_contiguous() for x in strided)
    for one, other in zip(phi_and_gradients(*strided, 0.1, impl=impl), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_patches_that_cancel_give_finite_values_and_gradients(impl: str) -> None:
    v = normalize(torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64), dim=0)
    patches = torch.stack([v, -v]).unsqueeze(0)
    for temperature in (1e9, math.inf):  # uniform weights: the pooled vector is 0
        result = phi_and_gradients(patches, patches[0, :1] + 0.0, temperature, impl=impl)
        assert all(x.isfinite().all() for x in result)
        assert result[0].abs().max() < 1e-2


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_texts_in_another_order_give_phi_in_that_order(shape: tuple, impl: str) -> None:
    patches, texts = unit_vectors(*shape)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    phi = compatibility(patches, texts, temperature=0.1, impl=impl)
    permuted = compatibility(patches, texts[order], temperature=0.1, impl=impl)
    torch.testing.assert_close(permuted, phi[:, order], rtol=0, atol=1e-14)


def pooled_with_own_caption(patches: Tensor, texts: Tensor) -> Tensor:
    """The trap: each image is pooled with its OWN caption and that one vector compared with every text."""
    a = torch.einsum("bpd,bd->bp", patches, texts).softmax(dim=-1)
    return normalize(torch.einsum("bp,bpd->bd", a, patches), dim=-1) @ texts.T


def mean_loss_over_pairings(phi_of: Callable[..., Tensor], patches: Tensor, texts: Tensor, scale: float) -> float:
    """Mean over all cyclic pairings of the loss of calling text (i + shift) image i's caption."""
    shifts = range(len(texts))
    losses = [contrastive_loss(scale * phi_of(patches, texts.roll(-k, dims=0))) for k in shifts]
    return torch.stack(losses).mean().item()


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_no_pairing_leaks_into_the_loss(scale: float) -> None:
    """Every text is right for every image once, so the mean loss is at least ln B (Jensen), whatever phi is.

    Pooling with the own caption breaks that: there the caption has already shaped the image's vector.
    """
    B = 16
    patches, texts = unit_vectors(B, B, 49, 32)
    for impl in IMPLEMENTATIONS:
        phi_of = partial(compatibility, impl=impl)
        assert mean_loss_over_pairings(phi_of, patches, texts, scale) >= math.log(B)
    assert mean_loss_over_pairings(pooled_with_own_caption, patches, texts, scale) < math.log(B)


def test_own_caption_pooling_is_not_equivariant() -> None:
    patches, texts = unit_vectors(6, 6, 9, 8)
    order = torch.arange(6).roll(1)
    leaky = pooled_with_own_caption(patches, texts)
    assert (pooled_with_own_caption(patches, texts[order]) - leaky[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize(("P", "D"), [(10, 64), (64, 16)])  # by Gram matrices, by pooled vectors
def test_chunked_holds_neither_all_similarities_nor_all_pooled_vectors(
    monkeypatch: pytest.MonkeyPatch, P: int, D: int
) -> None:
    monkeypatch.setattr(module, "CPU_CHUNK_BYTES", 100_000)
    B = T = 100
    largest, saved = {}, {}
    for impl in ("reference", "chunked"):
        patches, texts = (x.requires_grad_() for x in unit_vectors(B, T, P, D))
        held: list[int] = []

        def note(x: Tensor, held: list[int] = held) -> Tensor:
            held.append(x.numel())
            return x

        with Largest() as mode:
            with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
                phi = compatibility(patches, texts, temperature=0.1, impl=impl)
            phi.sum().backward()
        largest[impl], saved[impl] = mode.elements, sum(held)
    inputs, pairs = B * P * D + T * D, B * T
    assert largest["reference"] >= B * T * max(P, D)  # the instrument sees what it should see
    assert largest["chunked"] <= max(inputs, pairs) < B * T * min(P, D)
    assert saved["chunked"] <= inputs + 2 * pairs + 1 < saved["reference"]


def test_chunks_cover_everything_once_and_keep_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    for budget in (1, 5_000, 100_000, 10**9):
        monkeypatch.setattr(module, "CPU_CHUNK_BYTES", budget)
        for B, T, P, D in SHAPES:
            seen = torch.zeros(B, T, dtype=torch.int)
            for images, text_chunks in module._chunks(*unit_vectors(B, T, P, D)):
                for texts in text_chunks:
                    seen[images, texts] += 1
                    similarities = seen[images, texts].numel() * P * 8
                    assert similarities <= budget or seen[images, texts].numel() == 1
            assert (seen == 1).all()


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize(("B", "T", "P", "D"), SHAPES)
def test_what_is_kept_for_the_gradient_keeps_to_the_budget_and_changes_nothing(
    B: int, T: int, P: int, D: int, cosine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches, texts = unit_vectors(B, T, P, D)
    inputs = [x.clone().requires_grad_() for x in (patches, texts)]
    kept = compatibility(*inputs, cosine=cosine, impl="chunked").grad_fn.kept  # type: ignore[union-attr]
    used = sum(x.nbytes for pair in kept for x in pair if x is not None)
    expected = phi_and_gradients(patches, texts, 0.3, cosine=cosine, impl="chunked")
    monkeypatch.setattr(module, "KEPT_BYTES", used - 1)
    assert compatibility(*inputs, cosine=cosine, impl="chunked").grad_fn.kept is None  # type: ignore[union-attr]
    for found, same in zip(
        phi_and_gradients(patches, texts, 0.3, cosine=cosine, impl="chunked"), expected, strict=True
    ):
        assert torch.equal(found, same)


@pytest.mark.parametrize("needing", [None, 0, 1, 2])
def test_similarities_are_kept_only_where_an_input_needs_a_gradient(
    needing: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    apply = module._Chunked.apply
    monkeypatch.setattr(module._Chunked, "apply", lambda *args: asked.append(args[-1]) or apply(*args))
    patches, texts = unit_vectors(2, 3, 4, 5)
    inputs = [patches, texts, torch.tensor(0.3, dtype=patches.dtype)]
    if needing is not None:
        inputs[needing].requires_grad_()
    compatibility(inputs[0], inputs[1], temperature=inputs[2], impl="chunked")
    assert asked == [needing is not None]


def test_chunked_cannot_be_differentiated_twice() -> None:
    patches, texts = unit_vectors(2, 3, 4, 5)
    patches.requires_grad_()
    phi = compatibility(patches, texts, impl="chunked")
    (gradient,) = torch.autograd.grad(phi.square().sum(), patches, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_no_images_or_no_texts_give_an_empty_phi() -> None:
    patches, texts = unit_vectors(2, 3, 4, 5)
    for impl in IMPLEMENTATIONS:
        assert compatibility(patches[:0], texts, impl=impl).shape == (0, 3)
        assert compatibility(patches, texts[:0], impl=impl).shape == (2, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patches": torch.zeros(4, 5)}, r"\[B, P, D\].*\[4, 5\]"),
        ({"patches": torch.zeros(2, 0, 5)}, r"P >= 1.*\[2, 0, 5\]"),
        ({"texts": torch.zeros(3, 6)}, r"\[2, 4, 5\] and \[3, 6\]"),
        ({"texts": torch.zeros(3, 5, dtype=torch.int64)}, "floating.*int64"),
        ({"temperature": 0.0}, "temperature.*0.0"),
        ({"temperature": math.nan}, "temperature.*nan"),
        ({"temperature": torch.ones(2)}, r"temperature.*\[2\]"),
        ({"temperature": torch.tensor(1)}, "temperature.*int64"),
        ({"impl": "fast"}, "'fast'.*'auto', 'reference', 'chunked'"),
    ],
)
def test_errors_say_what_is_wrong(change: dict, message: str) -> None:
    arguments = {"patches": torch.zeros(2, 4, 5), "texts": torch.zeros(3, 5)} | change
    with pytest.raises(ValueError, match=message):
        compatibility(arguments.pop("patches"), arguments.pop("texts"), **arguments)


def test_pooling_entropy_counts_the_patches_looked_at() -> None:
    P, D = 8, 16
    patches = torch.eye(D, dtype=torch.float64)[None, :P].repeat(3, 1, 1)  # P different unit vectors
    texts = patches[:, 2].clone()
    assert pooling_entropy(patches, texts, math.inf).item() == pytest.approx(1)
    assert pooling_entropy(patches, texts, 1e-3).item() == pytest.approx(0, abs=1e-12)
    # Texts that look at two patches alike: two effective patches.
    halfway = normalize(patches[:, 2] + patches[:, 3], dim=-1)
    assert P ** pooling_entropy(patches, halfway, torch.tensor(1e-2)).item() == pytest.approx(2)
    assert pooling_entropy(patches[:, :1], texts).item() == 1
    with pytest.raises(ValueError, match=r"3.*2"):
        pooling_entropy(patches, texts[:2])
