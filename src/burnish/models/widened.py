"""Products of bfloat16 matrices on a CPU that has no instructions for them: they are made in fp32.

torch multiplies bfloat16 matrices there element by element, up to 40 times as slowly as it multiplies fp32. A bfloat16
number is an fp32 number, so both factors become fp32, are multiplied, and the result is rounded once, which is what
the instructions do that such a CPU lacks. Weights, gradients and what is kept for the backward pass stay bfloat16.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from burnish import hardware
from burnish.log import note

PRODUCTS = {
    "mm": ("mm.out",),
    "addmm": ("addmm.out", "addmm_"),
    "bmm": ("bmm.out",),
    "baddbmm": ("baddbmm.out", "baddbmm_"),
}
"""Operators that give a new tensor, each with its forms that write into one."""

FEWEST = 4
"""Products with fewer rows, columns or terms are bound by memory: making the factors wide takes more than it saves."""

_LIBRARY = torch.library.Library("aten", "IMPL")
"""Holds what is replaced; when it goes, torch has its own kernels back."""


@cache
def widen_products() -> bool:
    """From now on make bfloat16 products in fp32, in the whole process, and say so; whether this CPU needs that.

    torch's own kernels are replaced, since models, their gradients and optimisers all multiply and none of them should
    have to know. Other number formats and thin products go to the old kernels.
    """
    if hardware.has_fast_bfloat16():
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that kernels are replaced, which is the purpose
        for name, writing in PRODUCTS.items():
            fresh = torch.library.get_kernel(f"aten::{name}", "CPU")
            _LIBRARY.impl(name, _widened(fresh, fresh, into=None), "CPU", with_keyset=True, allow_override=True)
            for form in writing:
                kernel = torch.library.get_kernel(f"aten::{form}", "CPU")
                into = "out" if form.endswith(".out") else "self"
                _LIBRARY.impl(form, _widened(kernel, fresh, into), "CPU", with_keyset=True, allow_override=True)
    note("this CPU has no instructions for bfloat16, so its products are made in float32")
    return True


def _widened(kernel: Any, fresh: Any, into: str | None) -> Callable[..., Tensor]:
    """An operator that makes products of bfloat16 matrices in fp32.

    Args:
        kernel: what is called for all else. fresh: the form that gives a new tensor. into: which argument takes the
            result.
    """

    def run(keys: Any, *arguments: Any, **named: Any) -> Tensor:
        if not _slow(arguments, named.get("out")):
            result: Tensor = kernel.call_boxed(keys, *arguments, **named)
            return result
        target = named.pop("out", None) if into == "out" else arguments[0] if into else None
        wide = (value.float() if isinstance(value, Tensor) else value for value in arguments)
        product: Tensor = fresh.call_boxed(keys, *wide, **named)
        if target is None:
            return product.bfloat16()
        return target.resize_(product.shape).copy_(product) if into == "out" else target.copy_(product)

    return run


def _slow(arguments: tuple[Any, ...], out: Tensor | None) -> bool:
    """Whether torch's own kernel would be slow. It takes all that does not fit, too, and says what is wrong."""
    *rest, left, right = (value for value in arguments if isinstance(value, Tensor))
    given = [*rest, left, right, *([] if out is None else [out])]
    if any(tensor.dtype != torch.bfloat16 for tensor in given) or min(left.ndim, right.ndim) < 2:
        return False
    return bool(min(*left.shape[-2:], right.shape[-1]) >= FEWEST)
