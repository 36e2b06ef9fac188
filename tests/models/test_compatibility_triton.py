"""The Triton kernels against the reference: on a GPU where there is one, else by Triton's interpreter."""

import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pacl.models import compatibility as compatibility_module
from pacl.models.compatibility import compatibility

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Triton comes with the CUDA builds of torch.
module = pytest.importorskip("pacl.models.compatibility_triton", exc_type=ImportError)

# The interpreter's tl.dot does not multiply bfloat16.
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * (DEVICE == "cuda")

# B, T, P, D, temperature, cosine: ragged against every block, each size 1, several blocks of texts and of dimensions.
CASES = [
    (5, 7, 3, 16, 0.1, True),
    (1, 6, 5, 8, 1.0, True),
    (6, 1, 5, 8, 0.1, False),
    (4, 3, 1, 1, 1.0, False),
    (2, 70, 40, 100, 0.1, True),
    (2, 70, 40, 100, 1.0, False),
    (1, 140, 40, 20, 0.1, True),
    (1, 3, 256, 16, 0.1, True),
    (1, 5, 200, 8, 0.1, True),
    (3, 5, 7, 8, math.inf, True),
]


@pytest.fixture(autouse=True)
def small_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several ragged chunks of images even at the sizes of tests."""
    monkeypatch.setattr(module, "WORKSPACE_BYTES", 500)


def inputs(B: int, T: int, P: int, D: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    patches = normalize(torch.randn(B, P, D, generator=draw), dim=-1)
    texts = normalize(torch.randn(T, D, generator=draw), dim=-1)
    return patches.to(DEVICE, dtype), texts.to(DEVICE, dtype)


def weights_of(phi: Tensor) -> Tensor:
    return torch.sin(torch.arange(phi.numel(), device=DEVICE) + 1.0).view_as(phi)


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def phi_and_gradients(
    patches: Tensor, texts: Tensor, temperature: float, cosine: bool, impl: str, scale: float = 1.0
) -> list[Tensor]:
    """phi and the gradients by patches, texts and temperature of a fixed weighting, all in float64."""
    leaves = [x.detach().requires_grad_() for x in (patches, texts)]
    tau = torch.tensor(temperature, dtype=torch.float32, device=DEVICE, requires_grad=True)
    phi = compatibility(*leaves, temperature=tau, cosine=cosine, impl=impl)
    (phi * weights_of(phi) * scale).sum().backward()
    gradients = [x.grad for x in (*leaves, tau)]
    assert all(g is not None and g.dtype == x.dtype for g, x in zip(gradients, (*leaves, tau), strict=True))
    return [phi.detach().double(), *(g.double() / scale for g in gradients if g is not None)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_the_reference(case: tuple, dtype: torch.dtype) -> None:
    """The error is at most twice the error of the formula in the same dtype, beside some rounding."""
    *shape, temperature, cosine = case
    patches, texts = inputs(*shape, dtype)
    truth = phi_and_gradients(patches.double(), texts.double(), temperature, cosine, "reference")
    result = phi_and_gradients(patches, texts, temperature, cosine, "triton")
    leaves = [
        x.clone().requires_grad_() for x in (patches, texts, torch.tensor(temperature, dtype=dtype, device=DEVICE))
    ]
    phi = compatibility_module._reference(*leaves, cosine)
    (phi * weights_of(phi)).sum().backward()
    for got, own, exact in zip(result, (phi.detach(), *(x.grad for x in leaves)), truth, strict=True):
        if math.isfinite(temperature) or got.ndim:  # the temperature's gradient at infinity is 0 / 0
            error, rounding = rms(got - exact), 8 * torch.finfo(dtype).eps * rms(exact)
            assert error <= 2 * rms(own - exact) + rounding


def test_small_gradients_survive_float16() -> None:
    """float16 ends near 6e-8; a mean over a large batch has smaller gradients before they are summed."""
    patches, texts = inputs(2, 20, 40, 32, torch.float16)
    large = phi_and_gradients(patches, texts, 0.1, True, "triton", scale=1.0)
    small = phi_and_gradients(patches, texts, 0.1, True, "triton", scale=2.0**-10)
    for one, other in zip(large[1:], small[1:], strict=True):
        torch.testing.assert_close(other, one, rtol=2e-3, atol=float(one.abs().max()) * 1e-2)


@pytest.mark.parametrize("alone", [0, 1])
def test_gradient_for_one_input_only(alone: int) -> None:
    both = list(inputs(3, 5, 6, 8, torch.float32))
    expected = phi_and_gradients(*both, 1.0, True, "reference")[1 + alone]
    both[alone].requires_grad_()
    phi = compatibility(*both, temperature=1.0, impl="triton")
    (phi * weights_of(phi)).sum().backward()
    assert both[1 - alone].grad is None
    torch.testing.assert_close(both[alone].grad, expected.float(), rtol=1e-5, atol=1e-6)


def test_tensors_may_start_anywhere() -> None:
    """Blocks are copied from addresses that are multiples of 16 bytes."""
    both = inputs(3, 5, 6, 8, torch.float32)
    moved = [torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x) for x in both]
    assert all(x.data_ptr() % 16 for x in moved)
    expected = phi_and_gradients(*both, 0.1, True, "triton")
    for one, other in zip(phi_and_gradients(*moved, 0.1, True, "triton"), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_opposite_patches_have_a_finite_gradient() -> None:
    """Their pooled vector is zero, its norm is clamped and constant."""
    v = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], device=DEVICE)
    t = torch.tensor([[0.0, 1.0]], device=DEVICE)
    result = phi_and_gradients(v, t, 1.0, True, "triton")
    expected = phi_and_gradients(v, t, 1.0, True, "reference")
    for got, truth in zip(result, expected, strict=True):
        torch.testing.assert_close(got, truth)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_a_large_batch_is_right_in_less_than_a_gigabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the workspace has its own size
    patches, texts = inputs(4096, 4096, 196, 512, torch.bfloat16)
    leaf = patches.requires_grad_()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    phi = compatibility(leaf, texts, temperature=0.1, impl="triton")
    phi.sum().backward()
    assert leaf.grad is not None
    outputs = phi.nbytes + leaf.grad.nbytes
    assert torch.cuda.max_memory_allocated() - before - outputs < 1e9
    some = patches[:8].detach().float().requires_grad_()
    expected = compatibility(some, texts.float(), temperature=0.1, impl="reference")
    expected.sum().backward()
    assert some.grad is not None
    for got, exact in ((phi[:8], expected), (leaf.grad[:8], some.grad)):
        assert rms(got.float() - exact) < 1e-2 * rms(exact)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_compare(shape: tuple[int, int]) -> None:
    patches, texts = inputs(*shape, 4, 8, torch.float32)
    assert compatibility(patches, texts, impl="triton").shape == shape


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        compatibility(*inputs(1, 1, 2, 2, torch.float64), impl="triton")
    with pytest.raises(ValueError, match="patches"):
        compatibility(*inputs(1, 1, compatibility_module.MAX_PATCHES + 1, 2, torch.float32), impl="triton")


@pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU")
def test_without_a_gpu_or_the_interpreter_it_is_refused() -> None:
    code = "import torch; from pacl.models.compatibility import compatibility as c\n"
    code += "try: c(torch.ones(1, 1, 1), torch.ones(1, 1), impl='triton')\nexcept ValueError: print('refused')"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refused"
