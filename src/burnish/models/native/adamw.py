"""One update of AdamW by our own kernel (adamw.cpp): weights, moments and gradient are read and written once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.models import native


class _By(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_float) for name in ("first", "second", "epsilon", "share", "kept", "rate",
                                                         "root_scale"))  # fmt: skip


def fits(weight: Tensor) -> bool:
    """Whether the kernel updates a weight."""
    return weight.is_contiguous() and native.computes(weight)


def step(master: Sequence[Tensor], grad: Tensor, state: dict[str, Tensor], *, rate: float, betas: tuple[float, float],
         epsilon: float, decay: float, share: float, noise: Tensor, shift: int) -> None:  # fmt: skip
    """Update a weight in its place (arXiv:1711.05101 algorithm 2).

    Args:
        master: the fp32 weight, or the bfloat16 one and the 16 bits below it. grad: in the weight's dtype.
        state: torch's of AdamW: step, exp_avg, exp_avg_sq, the moments in fp32, in bfloat16 or in codes of one byte
        (training/eight_bit.py). share: what the gradient is multiplied by first. noise: what other moments than fp32
        are rounded by (training/moments.py), 2 x two periods; shift: where in it those of bfloat16 begin.
    """
    state["step"] += 1
    count = float(state["step"])
    corrections = [1 - beta**count for beta in betas]
    by = _By(*betas, epsilon, share, 1 - rate * decay, rate / corrections[0], 1 / corrections[1])
    grad = grad.to(master[0].dtype).contiguous()
    moments = (state["exp_avg"], state["exp_avg_sq"])
    name, period = "adamw", noise.shape[1] // 2
    rest: tuple[Tensor | int, ...] = ()
    if moments[0].dtype == torch.bfloat16:
        name, rest = "adamw_narrow", (noise, period, shift)
    elif "exp_avg_scale" in state:
        name, rest = "adamw_coded", (state["exp_avg_scale"], state["exp_avg_sq_scale"], noise, period)
    native.call(name, master[0].dtype, ctypes.byref(by), grad.numel(), *master, grad, *moments, *rest)
