"""The softmax over a vocabulary in parts by our own kernels (head.cpp): None where they do not fit the tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.models import native

Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def taken_in(raw: Tensor, tokens: Tensor, most: Tensor, total: Tensor, chosen: Tensor, scale: float,
             softcap: float | None, learns: bool) -> Parts | None:  # fmt: skip
    """As `logprobs._taken_in`, in the place of its arguments; the last result is in that of `raw`."""
    if not _fits(raw, tokens):
        return None
    shrink = torch.empty_like(most)
    native.call("head_take_in", raw.dtype, *raw.shape, raw, tokens, most, total, chosen, shrink, float(scale),
                float(softcap or 0.0), int(learns))  # fmt: skip
    return most, total, chosen, shrink, raw


def pushed(raw: Tensor, tokens: Tensor, normalizer: Tensor, given: Tensor, scale: float, softcap: float | None,
           sums: bool) -> tuple[Tensor, Tensor] | None:  # fmt: skip
    """As `logprobs._pushed`, in the place of `raw`."""
    if sums or not _fits(raw, tokens):
        return None
    native.call("head_push", raw.dtype, *raw.shape, raw, tokens, normalizer, given.contiguous(), float(scale),
                float(softcap or 0.0))  # fmt: skip
    return raw, given


def _fits(raw: Tensor, tokens: Tensor) -> bool:
    fit = raw.is_contiguous() and tokens.is_contiguous() and tokens.dtype == torch.int64
    return fit and native.computes(raw)
