"""Low-rank adapters on experts that a family holds as one tensor: y = x W' + s (x A') B', of each row's expert.

peft adds s B A to the tensor before every pass. Autograd then keeps that sum, so all experts once more for every layer,
and makes the gradient of every expert's whole matrix to take the adapter's from it. Here an adapter has products of its
own, grouped by expert as the experts' are, and nothing of the tensor's size is made.

Such tensors are no layers, which bitsandbytes holds in four bits by itself. Here they are `packed` by themselves: each
layer's are whole only while it computes, forward and backward.
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

from burnish.errors import ModelError
from burnish.models.targets import EXPERTS, is_stacked

CHOSEN = ("num_experts_per_tok", "top_k_experts", "moe_topk", "moe_top_k")
"""What configurations call the number of experts that a token goes through."""
ALIGNED = 8
"""Ranks are filled up to a multiple of it: a GPU's grouped products want rows that begin at multiples of 16 bytes."""
TENSORS = ("gate_up_proj", "up_proj", "down_proj")
"""What families call the tensors of their experts."""
TRIED = 8
"""Most experts that a trial of `_computes_the_same` goes through, the first ones."""
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
    if not is_stacked(module):
        return None
    experts, adapters = _unwrapped(module)
    fit = bool(adapters) and set(adapters) <= set(TENSORS) and _fits(experts, known)
    return partial(_forward, experts, adapters) if fit else None


Adapters = dict[str, list[_Adapter]]
"""By the name of the tensor they are on."""


def _unwrapped(module: Any) -> tuple[Any, Adapters]:
    """What wrappers are around, and the adapters that act now."""
    adapters: Adapters = {}
    while is_stacked(module):
        for name in () if module.disable_adapters or module.merged else module.active_adapters:
            if name in module.lora_A:
                parts = (module.lora_A[name], module.lora_B[name], module.num_experts, module.scaling[name])
                adapters.setdefault(module.parameter_name, []).append(_Adapter(*parts))
        module = module.base_layer
    return module, adapters


def _fits(experts: Any, known: dict[type, bool]) -> bool:
    if type(experts) not in known:
        known[type(experts)] = _computes_the_same(experts)
    return known[type(experts)]


def packed(weight: Tensor) -> torch.nn.Parameter:
    """What stands in the place of a tensor of experts: it has the tensor's shape, takes no memory, and spoils a result
    that anyone makes of it. Its `packed` and `quant_state` are the tensor in NF4."""
    from bitsandbytes.functional import quantize_4bit

    empty = torch.nn.Parameter(weight.new_full((1, 1, 1), torch.nan).expand(weight.shape), requires_grad=False)
    codes, state = quantize_4bit(weight.detach(), quant_type="nf4", compress_statistics=True)
    empty.packed, empty.quant_state = codes, state
    return empty


def are_packable(module: Any, known: dict[type, bool]) -> bool:
    """Whether a module is experts in tensors that can be packed.

    Args:
        known: which kinds of experts compute what is computed here; those not met before are tried.
    """
    return bool(tensors_of(module)) and _fits(module, known)


def tensors_of(module: Any) -> list[str]:
    """The names of a module's tensors of experts."""
    return [name for name in TENSORS if getattr(getattr(module, name, None), "ndim", 0) == 3]


def compute_packed(model: Any) -> None:
    """Let experts compute with what their tensors are packed as; those that are whole yet are packed."""
    known: dict[type, bool] = {}
    for module in model.modules():
        names = tensors_of(module)
        whole = [name for name in names if not hasattr(getattr(module, name), "packed")]
        if whole and not are_packable(module, known):
            continue
        for name in whole:
            setattr(module, name, packed(getattr(module, name)))
        if names:
            module.forward = partial(_as_adapted, module)
    follow_adapters(model)


def follow_adapters(model: Any) -> None:
    """Let experts that are held in four bits compute with the adapters around them, which peft would add to them.

    Raises ModelError for adapters on something else of theirs, such as biases.
    """
    for module in model.modules():
        if is_stacked(module) and "forward" in vars(_unwrapped(module)[0]):
            if module.parameter_name not in TENSORS:
                raise ModelError(f"experts in four bits cannot have an adapter on {module.parameter_name}",
                                 hint="leave `quantize` out")  # fmt: skip
            module.forward = partial(_as_adapted, module)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # its products compile in bfloat16 alone, four bits not at all
def _as_adapted(module: Any, *given: Tensor) -> Tensor:
    return _forward(*_unwrapped(module), *given)


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
    index = (torch.arange(TRIED).view(4, 2) % len(weight)).to(weight.device)
    shares = torch.rand(4, 2, generator=draw).to(weight)
    try:
        expected = experts(x, index, shares)
    except (TypeError, RuntimeError):  # another signature
        return False
    apart = (_forward(experts, {}, x, index, shares) - expected).abs().max()
    return bool(apart <= ROUNDING * expected.abs().max())


def _forward(experts: Any, adapters: Adapters, hidden: Tensor, index: Tensor, shares: Tensor) -> Tensor:
    """What experts give (N, H) for states (N, H), from the chosen experts of each (N, K) and their shares (N, K)."""
    chosen, order = index.flatten().sort(stable=True)
    x = hidden[order // index.shape[1]]  # (N K, H), expert after expert
    every = torch.arange(len(experts.down_proj), device=chosen.device)
    ends = torch.searchsorted(chosen, every, right=True, out_int32=True)

    def product(x: Tensor, name: str) -> Tensor:
        weight = getattr(experts, name)
        if hasattr(weight, "packed"):
            y = _Packed.apply(x, weight, ends, experts.is_transposed)
        else:
            y = _grouped(x, weight.transpose(1, 2) if experts.is_transposed else weight, ends)
        if experts.has_bias:
            y = y + getattr(experts, f"{name}_bias")[chosen]
        return sum((adapter(x, ends) for adapter in adapters.get(name, ())), y)

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


def stored(weight: Any) -> list[Tensor]:
    """What a weight is held as: itself, or in four bits its codes and their constants."""
    if not hasattr(weight, "quant_state"):
        return [weight]
    constants = [value for _, value in sorted(weight.quant_state.as_dict().items()) if isinstance(value, Tensor)]
    return [getattr(weight, "packed", weight), *constants]


class _Packed(torch.autograd.Function):  # type: ignore[misc]
    """y = x W' of each row's expert, with W in four bits and frozen; dx = dy W. Nothing is kept of either."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, ends: Tensor, transposed: bool) -> Tensor:
        ctx.weight, ctx.ends, ctx.transposed = weight, ends, transposed
        return _grouped(x, _unpacked(weight, transposed), ends)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _grouped(grads[0], _unpacked(ctx.weight, not ctx.transposed), ctx.ends), None, None, None


def _unpacked(weight: Any, transposed: bool) -> Tensor:
    """A tensor of experts (E, O, I) out of four bits, in which it may lie as (E, I, O)."""
    from bitsandbytes.functional import dequantize_4bit

    found: Tensor = dequantize_4bit(weight.packed, weight.quant_state)
    return found.transpose(1, 2) if transposed else found
