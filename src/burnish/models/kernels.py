"""Few kernels: a GPU runs a function as one instead of one for each operation, a CPU has few sizes of products."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

from burnish import hardware
from burnish.log import note

P = ParamSpec("P")
R = TypeVar("R")
VARIANTS = 64
"""Forms of one function that may be compiled in a process: dtypes, widths of heads, with gradients or without. Beyond
that torch would run it uncompiled, which for attention is T x T scores. Its own limit is 8."""


@cache
def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """A function compiled once, for tensors of any length."""
    import torch._dynamo

    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, VARIANTS)
    made: Callable[P, R] = torch.compile(function, dynamic=True)
    return made


class few_kernels(Generic[P, R]):
    """Runs a function of tensors compiled where the first of them is on a GPU, by a kernel of our own on a CPU if it is
    handed one that fits, and as it is written elsewhere.

    What stands between two matrix products is bound by memory: written out, every operation reads and writes all of it.
    The compiled function rounds once where the written one rounds after every operation.
    """

    def __init__(self, plain: Callable[P, R], native: Callable[P, R | None] | None = None) -> None:
        self.plain = plain
        """The function as it is written."""
        self._native = native

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        first: Any = arguments[0]
        if self._native is not None and (found := self._native(*arguments, **named)) is not None:
            return found
        run = compiled(self.plain) if first.is_cuda and can_compile() else self.plain
        return run(*arguments, **named)


@cache
def can_compile() -> bool:
    """Whether functions can be compiled for the GPU here: that takes Triton and a C compiler. Says so when not."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device="cuda"))
    except Exception as error:  # whatever a compiler raises that is not there or does not fit
        reason = str(error).strip().partition("\n")[0]
        note(f"torch cannot compile for this GPU, so training takes more time and memory ({reason});"
             " it needs Triton and a C compiler")  # fmt: skip
        return False
    return True


def extra_rows(rows: int, weight: Tensor) -> int:
    """How many rows to add to a product with a weight, so that products have few sizes.

    oneDNN, which multiplies bfloat16 on a CPU that has instructions for it, makes a kernel for every number of rows and
    keeps much of it for good: half a megabyte for each shape of a weight, which would fill the memory in a long run.
    With 16 sizes between one power of two and the next, a fiftieth is added on average.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not hardware.has_fast_bfloat16():
        return 0
    return -rows % (1 << max(0, rows.bit_length() - 5))
