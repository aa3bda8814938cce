"""Attention over trees equals attention with a dense mask, gradients included, whatever the blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from burnish.models import attention
from burnish.models.attention import flex, reaches, tree_attention
from burnish.models.layout import plant

SHARED = tuple(range(100, 140))
ROWS = [
    SHARED + tuple(range(30)), SHARED + tuple(range(50, 65)), tuple(range(3, 9)), SHARED + tuple(range(30)) + (7, 8, 9)
]  # fmt: skip


def segments() -> Tensor:
    tree = plant(ROWS, least=8)
    return torch.tensor([[s.start, s.stop, s.depth, s.parent] for s in tree.segments])


def dense(query: Tensor, key: Tensor, value: Tensor, window: int, softcap: float) -> Tensor:
    """The plain computation with a T x T mask."""
    positions, reach = reaches(segments())
    places = torch.arange(len(reach))
    mask = (places[None] <= places[:, None]) & (places[:, None] < reach[None])
    if window:
        mask &= positions[:, None] - positions[None] < window
    scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) * 0.3
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)


def inputs() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    total = int(segments()[-1, 1])
    return [torch.randn(1, heads, total, 8, generator=draw, requires_grad=True) for heads in (4, 2, 2)]


@pytest.mark.parametrize("block", [256, 16, 7])
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (16, 0.0), (0, 5.0), (8, 3.0)])
def test_it_equals_the_dense_mask(block: int, window: int, softcap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    query, key, value = inputs()
    expected = dense(query, key, value, window, softcap)
    found = tree_attention(query, key, value, segments(), 0.3, window, softcap)
    assert torch.allclose(found, expected, atol=1e-5)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    plain = torch.autograd.grad(expected, (query, key, value), upstream)
    ours = torch.autograd.grad(found, (query, key, value), upstream)
    for mine, theirs in zip(ours, plain, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (16, 0.0), (8, 3.0)])
def test_the_mask_for_gpus_is_the_same_rule(window: int, softcap: float) -> None:
    query, key, value = (one.detach() for one in inputs())
    found = flex(query, key, value, segments(), 0.3, window, softcap)
    assert torch.allclose(found, dense(query, key, value, window, softcap), atol=1e-5)


def test_torch_agrees_that_the_operator_is_well_formed() -> None:
    query, key, value = inputs()
    found = torch.library.opcheck(
        torch.ops.burnish.tree_attention.default, (query, key, value, segments(), 0.3, 16, 5.0),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )  # fmt: skip
    assert set(found.values()) == {"SUCCESS"}
