"""Our kernels of norms, gates and rotations give what the written functions give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from burnish.models import fusing, native
from burnish.models.native import layers

pytestmark = pytest.mark.skipif(native.library() is None, reason="no kernels here")
DTYPES = pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])


def drawn(*shape: int, kind: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(kind)


def near(mine: Tensor, theirs: Tensor) -> bool:
    """Equal but for the last bits: sums are made in another order."""
    last = 2**-7 if mine.dtype == torch.bfloat16 else 1e-5
    return torch.allclose(mine, theirs, rtol=last, atol=last)


@DTYPES
@pytest.mark.parametrize(("offset", "early"), fusing.NORMS)
@pytest.mark.parametrize("learns", [True, False])
def test_norms(offset: float, early: bool, learns: bool, kind: torch.dtype) -> None:
    x, weight, grad = drawn(3, 5, 40, kind=kind), drawn(40, kind=kind, seed=1), drawn(3, 5, 40, kind=kind, seed=2)
    found = layers.normed(x, weight, 1e-5, offset, early)
    expected = fusing._normed.plain(x, weight, 1e-5, offset, early)
    assert found is not None and all(map(near, found, expected))
    slopes = layers.norm_slopes(x, weight, expected[1], grad, offset, learns)
    assert slopes is not None
    assert all(map(near, slopes, fusing._norm_slopes.plain(x, weight, expected[1], grad, offset, learns)))


@DTYPES
@pytest.mark.parametrize("act", sorted(layers.ACTS))
def test_gates(act: str, kind: torch.dtype) -> None:
    gate, up, grad = (drawn(3, 4099, kind=kind, seed=seed) * 8 for seed in range(3))  # more than one task, and a rest
    gate[0, :4] = torch.tensor([-200.0, -88.0, 88.0, 200.0])  # the exponential ends on both sides
    found = layers.gated(gate, up, act)
    assert found is not None and near(found, fusing._gated.plain(gate, up, act))
    expected = fusing._gated_slopes.plain(gate, up, grad, act)
    slopes = layers.gated_slopes(gate, up, grad, act)
    assert slopes is not None and slopes[0] is gate and slopes[1] is up  # in their place
    for mine, theirs in zip(slopes, expected, strict=True):
        size = float(theirs.abs().max())
        assert torch.allclose(mine / size, theirs / size, atol=2**-8 if kind == torch.bfloat16 else 5e-6)


def test_an_activation_without_a_kernel_is_torchs() -> None:
    gate = torch.ones(2, 2)
    assert layers.gated(gate, gate, "gelu") is None and layers.gated_slopes(gate, gate, gate, "gelu") is None


@DTYPES
def test_rotations(kind: torch.dtype) -> None:
    x = drawn(1, 7, 3, 16, kind=kind).transpose(1, 2).requires_grad_()
    cos, sin, grad = drawn(1, 7, 16, kind=kind), drawn(1, 7, 16, kind=kind, seed=1), drawn(1, 3, 7, 16, kind=kind)
    assert layers.rotates(x, cos, sin)
    expected, _ = apply_rotary_pos_emb(x, x, cos, sin)
    (slope,) = torch.autograd.grad(expected, x, grad)
    assert near(layers.rotated(x.detach(), cos, sin), expected)
    assert near(layers.rotated(grad, cos, sin, back=True), slope)
    held = x.detach().clone(memory_format=torch.preserve_format)
    taken = layers.rotated(held, cos, sin, in_place=True)
    assert taken.data_ptr() == held.data_ptr() and near(taken, expected)


def test_what_does_not_fit_is_left_to_torch() -> None:
    x, cos = torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 4)
    assert layers.rotates(x, cos, cos)
    assert not layers.rotates(x.expand(2, -1, -1, -1), cos, cos)  # two rows
    assert not layers.rotates(x, cos[..., :2], cos[..., :2])  # a part of each head
    assert not layers.rotates(x.half(), cos.half(), cos.half())
    assert layers.normed(torch.zeros(4, 6).T, torch.zeros(4), 1e-5, 0.0, True) is None
