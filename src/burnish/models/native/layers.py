"""Norms, gates and rotations by our own kernels (layers.cpp): each gives None where they do not fit its tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.models import native


def _fit(*tensors: Tensor) -> bool:
    return all(one.is_contiguous() and one.dtype == tensors[0].dtype for one in tensors) and native.computes(tensors[0])


def normed(x: Tensor, weight: Tensor, epsilon: float, offset: float, early: bool) -> tuple[Tensor, Tensor] | None:
    """A root-mean-square norm of the last dimension, and 1 / rms of each row."""
    if not _fit(x, weight):
        return None
    y, inverse = torch.empty_like(x), torch.empty(*x.shape[:-1], 1)
    native.call("norm_forward", x.dtype, inverse.numel(), x.shape[-1], x, weight, epsilon, offset, int(early), y,
                inverse)  # fmt: skip
    return y, inverse


def norm_slopes(x: Tensor, weight: Tensor, inverse: Tensor, grad: Tensor, offset: float, learns: bool
                ) -> tuple[Tensor, Tensor] | None:  # fmt: skip
    """The gradients of a norm's input, and of its weight if that learns."""
    if not _fit(x, weight, grad):
        return None
    grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight) if learns else None
    native.call("norm_backward", x.dtype, inverse.numel(), x.shape[-1], x, weight, inverse, grad, offset, grad_x,
                grad_weight)  # fmt: skip
    return grad_x, weight if grad_weight is None else grad_weight


ACTS = {"silu", "gelu_tanh"}


def gated(gate: Tensor, up: Tensor, act: str) -> Tensor | None:
    """act(gate) * up."""
    if act not in ACTS or not _fit(gate, up):
        return None
    y = torch.empty_like(gate)
    native.call(f"gated_forward_{act}", gate.dtype, gate.numel(), gate, up, y)
    return y


def gated_slopes(gate: Tensor, up: Tensor, grad: Tensor, act: str) -> tuple[Tensor, Tensor] | None:
    """The gradients of gate and up, in their place."""
    if act not in ACTS or not _fit(gate, up, grad):
        return None
    native.call(f"gated_backward_{act}", gate.dtype, gate.numel(), gate, up, grad, gate, up)
    return gate, up


def rotates(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether `rotated` computes it: one row of tokens with as many angles as numbers in a head."""
    shape = (1, x.shape[2], x.shape[3]) if x.ndim == 4 and len(x) == 1 else ()
    plain = cos.shape == shape and sin.shape == shape and x.stride(-1) == 1 and x.shape[-1] % 2 == 0
    return plain and x.dtype == cos.dtype and _fit(cos, sin)


def rotated(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False, in_place: bool = False) -> Tensor:
    """x cos + (second half negated, first half) sin for x (1, heads, T, D) and cos, sin (1, T, D), or with `back` the
    gradient of x from that of the result. In memory heads of one token stand beside each other; where those of x do,
    the result may take its place."""
    heads, tokens, width = x.shape[1:]
    by_token = x.transpose(1, 2)
    y = by_token if in_place and by_token.is_contiguous() else x.new_empty(1, tokens, heads, width)
    native.call("rotate", x.dtype, tokens, heads, width, x.stride(2), x.stride(1), x, cos, sin, int(back), y)
    return y.transpose(1, 2)
