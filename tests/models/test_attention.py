"""Attention over trees equals attention with a dense mask, gradients included, whatever the blocks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from burnish.models import attention, native
from burnish.models.attention import flex, reaches, tree_attention
from burnish.models.layout import plant

SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0])
SHARED = tuple(range(100, 140))
ROWS = [
    SHARED + tuple(range(30)), SHARED + tuple(range(50, 65)), tuple(range(3, 9)), SHARED + tuple(range(30)) + (7, 8, 9)
]  # fmt: skip


def segments() -> Tensor:
    tree = plant(ROWS, least=8)
    return torch.tensor([[s.start, s.stop, s.depth, s.parent] for s in tree.segments])


def dense(query: Tensor, key: Tensor, value: Tensor, window: int, softcap: float, sinks: Tensor | None = None
          ) -> Tensor:  # fmt: skip
    """The plain computation with a T x T mask."""
    positions, reach = reaches(segments())
    places = torch.arange(len(reach))
    mask = (places[None] <= places[:, None]) & (places[:, None] < reach[None])
    if window:
        mask &= positions[:, None] - positions[None] < window
    scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) * 0.3
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if sinks is not None:  # a key of its own, without a value
        scores = torch.cat([scores, sinks[None, :, None, None].expand(-1, -1, len(reach), 1)], -1)
    weights = scores.softmax(-1)[..., : len(reach)]
    return (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)


def inputs() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    total = int(segments()[-1, 1])
    return [torch.randn(1, heads, total, 8, generator=draw, requires_grad=True) for heads in (4, 2, 2)]


@pytest.mark.parametrize("block", [None, 256, 16, 7], ids=lambda block: f"blocks of {block}" if block else "kernels")
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (16, 0.0), (0, 5.0), (8, 3.0)])
def test_it_equals_the_dense_mask(
    block: int | None, window: int, softcap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block:  # kernels of our own have others
        monkeypatch.setattr(native, "multiplies", lambda _: False)
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


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (16, 5.0)])
def test_a_sink_is_a_key_without_a_value(
    window: int, softcap: float, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own:
        monkeypatch.setattr(native, "multiplies", lambda _: False)
    leaves = (*inputs(), SINKS.clone().requires_grad_())
    query, key, value, sinks = leaves
    expected = dense(query, key, value, window, softcap, sinks)
    found = tree_attention(query, key, value, segments(), 0.3, window, softcap, sinks)
    assert torch.allclose(found, expected, atol=1e-5)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    plain, ours = (torch.autograd.grad(output, leaves, upstream) for output in (expected, found))
    for mine, theirs in zip(ours, plain, strict=True):
        assert torch.allclose(mine, theirs, atol=2e-5)


def test_the_weight_of_a_sink_by_hand() -> None:
    one, sinks = torch.ones(1, 1, 1, 2), torch.tensor([math.log(3.0)], requires_grad=True)
    found = tree_attention(one * 0, one, one, torch.tensor([[0, 1, 0, -1]]), 1.0, 0, 0.0, sinks)
    # The only key's score is 0: of 1 + 3 it has a quarter, and d (1/4) / d sink = -(1/4)(3/4), in two dimensions
    assert found.flatten().tolist() == pytest.approx([0.25, 0.25])
    (slope,) = torch.autograd.grad(found.sum(), sinks)
    assert slope.item() == pytest.approx(-0.375)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("window", "softcap", "sinks"), [(0, 0.0, None), (16, 0.0, SINKS), (8, 3.0, None)])
def test_the_mask_for_gpus_is_the_same_rule(window: int, softcap: float, sinks: Tensor | None) -> None:
    query, key, value = (one.detach() for one in inputs())
    found = flex(query, key, value, segments(), 0.3, window, softcap, sinks)
    assert torch.allclose(found, dense(query, key, value, window, softcap, sinks), atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_values_may_be_wider_than_queries() -> None:
    query, key, value = (one.detach() for one in inputs())
    wide = torch.cat([value, value * 2, value * 3], -1)
    found = flex(query, key, wide, segments(), 0.3, 0, 0.0)
    assert torch.allclose(found, dense(query, key, wide, 0, 0.0), atol=1e-5)


@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0, 2.0, 0.0], requires_grad=True)])
def test_torch_agrees_that_the_operator_is_well_formed(sinks: Tensor | None) -> None:
    query, key, value = inputs()
    found = torch.library.opcheck(
        torch.ops.burnish.tree_attention.default, (query, key, value, segments(), 0.3, 16, 5.0, sinks),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )  # fmt: skip
    assert set(found.values()) == {"SUCCESS"}
