"""The gradient of an embedding, added to the rows of the tokens that a batch has.

torch makes a whole matrix of zeros for every backward pass, writes some rows of it and adds it to what is there: of a
vocabulary of 49,152 tokens a twentieth of a training step on a CPU, and the memory of two such matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from burnish.models.logprobs import backbone_of

Waiting = list[tuple[Tensor, Tensor, Tensor]]
"""Of weights, the tokens (N,) and the gradients of their rows (N, H)."""


@contextmanager
def gradients_by_row(model: Any, wanted: bool = True) -> Iterator[Callable[[], None]]:
    """While this lasts gradients of embeddings on a CPU wait; what it gives adds them, after every backward pass."""
    waiting: Waiting = []
    found = [module for module in backbone_of(model).modules() if _is_plain(module)] if wanted else []
    for module in found:
        module.forward = partial(_embed, module, waiting)
    try:
        yield partial(_add, waiting)
    finally:
        for module in found:
            del module.forward


def _is_plain(module: Any) -> bool:
    """Whether it looks rows up and does nothing else, with weights on a CPU that learn."""
    plain = type(module) is torch.nn.Embedding and module.max_norm is None
    plain = plain and not (module.scale_grad_by_freq or module.sparse)
    return plain and module.weight.requires_grad and module.weight.device.type == "cpu"


def _embed(module: Any, waiting: Waiting, ids: Tensor) -> Tensor:
    result: Tensor = _Rows.apply(module.weight, ids, module.padding_idx, waiting)
    return result


class _Rows(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int | None, waiting: Waiting) -> Tensor:
        waiting.clear()  # what a pass that ran out of memory has left
        ctx.weight, ctx.ids, ctx.padding, ctx.waiting = weight, ids, padding, waiting
        return embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        ids, rows = ctx.ids.flatten(), grads[0].flatten(0, -2)
        if ctx.padding is not None:
            real = ids != ctx.padding
            ids, rows = ids[real], rows[real]
        ctx.waiting.append((ctx.weight, ids, rows))
        return None, None, None, None


@torch.no_grad()  # type: ignore[untyped-decorator]
def _add(waiting: Waiting) -> None:
    """Sums of a token's rows are made in fp32 and rounded once."""
    for weight, ids, rows in waiting:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        tokens, places = ids.unique(return_inverse=True)
        sums = torch.zeros(len(tokens), rows.shape[1]).index_add_(0, places, rows.float())
        weight.grad[tokens] += sums.to(weight.dtype)
    waiting.clear()
