"""Low-rank adapters on experts that a family holds as one tensor: y = x W' + s (x A') B', of each row's expert.

peft adds s B A to the tensor before every pass. Autograd then keeps that sum, so all experts once more for every layer,
and makes the gradient of every expert's whole matrix to take the adapter's from it. Here an adapter has products of its
own, grouped by expert as the experts' are, and nothing of the tensor's size is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm, pad

from burnish.models.targets import EXPERTS

CHOSEN = ("num_experts_per_tok", "top_k_experts", "moe_topk", "moe_top_k")
"""What configurations call the number of experts that a token goes through."""
ALIGNED = 8
"""Ranks are filled up to a multiple of it: a GPU's grouped products want rows that begin at multiples of 16 bytes."""
ROUNDING = 0.02
"""Of the largest result, by which two ways to the same one may differ in bfloat16."""


@dataclass(frozen=True)
class _Adapter:
    """The adapter of one tensor of E experts."""

    down: Any
    """A, a linear layer with a weight (R E, I), expert after expert."""
    up: Any
    """B, a linear layer with a weight (O, R E), in which the experts of one rank stand beside each other."""
    experts: int
    scale: float

    def __call__(self, x: Tensor, ends: Tensor) -> Tensor:
        down = self.down.weight.unflatten(0, (self.experts, -1))  # (E, R, I)
        up = self.up.weight.unflatten(1, (-1, self.experts)).permute(2, 0, 1)  # (E, O, R)
        missing = -down.shape[1] % ALIGNED
        down, up = pad(down, (0, 0, 0, missing)), pad(up.contiguous(), (0, missing))
        return _grouped(_grouped(x, down, ends) * self.scale, up, ends)


def chosen_share(model: Any) -> float:
    """The share of its experts that a token of a model goes through; 1 where a configuration does not say it."""
    config = model.config.get_text_config()
    chosen = next((found for name in CHOSEN if isinstance(found := getattr(config, name, None), int)), None)
    names = {name: weight for name, weight in model.named_parameters() if EXPERTS in name}
    stacked = {len(weight) for weight in names.values() if weight.ndim == 3}
    apart = {found[1] for name in names if (found := re.search(r"\.experts\.(\d+)\.", name))}
    every = max(stacked or {len(apart)})
    return min(1.0, chosen / every) if chosen and every else 1.0


def experts_of(module: Any, known: dict[type, bool]) -> Callable[..., Tensor] | None:
    """A forward pass of experts with plain adapters on their tensors, if the module is such.

    Args:
        known: which kinds of experts compute what is computed here; those not met before are tried.
    """
    if not hasattr(module, "parameter_name"):
        return None
    experts, adapters = module, {}
    while hasattr(experts, "parameter_name"):  # one wrapper for each tensor, around each other
        active = [name for name in experts.active_adapters if name in experts.lora_A]
        if experts.merged or experts.disable_adapters or len(active) != 1:
            return None
        (name,) = active
        parts = (experts.lora_A[name], experts.lora_B[name], experts.num_experts, experts.scaling[name])
        adapters[experts.parameter_name] = _Adapter(*parts)
        experts = experts.base_layer
    names = {"gate_up_proj" if getattr(experts, "has_gate", True) else "up_proj", "down_proj"}
    if not set(adapters) <= names:
        return None
    if type(experts) not in known:
        known[type(experts)] = _computes_the_same(experts)
    return partial(_forward, experts, adapters) if known[type(experts)] else None


@torch.no_grad()  # type: ignore[untyped-decorator]
def _computes_the_same(experts: Any) -> bool:
    """Whether experts without adapters give what `_forward` gives: tried with two experts for each of four rows."""
    weight = getattr(experts, "down_proj", None)
    whole = ("_apply_gate", "has_gate", "has_bias", "has_post_expert_norm", "is_transposed")
    if not isinstance(weight, Tensor) or weight.ndim != 3 or not all(hasattr(experts, name) for name in whole):
        return False
    draw = torch.Generator().manual_seed(0)
    width = weight.shape[2 if experts.is_transposed else 1]
    x = torch.randn(4, width, generator=draw).to(weight)
    index = (torch.arange(8).view(4, 2) % len(weight)).to(weight.device)
    shares = torch.rand(4, 2, generator=draw).to(weight)
    try:
        expected = experts(x, index, shares)
    except (TypeError, RuntimeError):  # another signature
        return False
    apart = (_forward(experts, {}, x, index, shares) - expected).abs().max()
    return bool(apart <= ROUNDING * expected.abs().max())


def _forward(experts: Any, adapters: dict[str, _Adapter], hidden: Tensor, index: Tensor, shares: Tensor) -> Tensor:
    """What experts give (N, H) for states (N, H), from the chosen experts of each (N, K) and their shares (N, K)."""
    chosen, order = index.flatten().sort(stable=True)
    x = hidden[order // index.shape[1]]  # (N K, H), expert after expert
    ends = torch.bincount(chosen, minlength=len(experts.down_proj)).cumsum(0).to(torch.int32)

    def product(x: Tensor, name: str) -> Tensor:
        weight = getattr(experts, name)
        y = _grouped(x, weight.transpose(1, 2) if experts.is_transposed else weight, ends)
        if experts.has_bias:
            y = y + getattr(experts, f"{name}_bias")[chosen]
        return y + adapters[name](x, ends) if name in adapters else y

    gated = experts.has_gate
    inner = experts._apply_gate(product(x, "gate_up_proj")) if gated else experts.act_fn(product(x, "up_proj"))
    y = product(inner, "down_proj")
    if experts.has_post_expert_norm:
        y = experts.post_expert_norm(y)
    y = y * shares.flatten()[order, None]
    placed = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return y[placed].unflatten(0, index.shape).sum(1).to(hidden.dtype)


def _grouped(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """The products (S, O) of rows (S, I), which stand expert after expert, with their expert's matrix of (E, O, I);
    `ends` (E,) is where each expert's rows end."""
    found: Tensor = grouped_mm(x, weights.transpose(1, 2), offs=ends)
    return found
