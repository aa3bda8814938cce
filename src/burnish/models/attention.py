"""Attention over token trees: one function for training, scoring and every family that transformers dispatches.

On a CPU each segment attends to its path in blocks of queries. A block needs the keys up to itself and within the
window, so nothing larger than block x path exists, and the two triangles above the diagonal are mostly never computed.
Scores are made again in the backward pass; what is kept is one number for each query and head (as in FlashAttention-2,
arXiv:2307.08691). On a GPU the same rule is a mask for flex attention: depth first, the descendants of a token are one
range of places, so a query q sees a key k when k <= q < end of k's subtree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "burnish_tree"
"""Its name in transformers' attention interface."""
BLOCK = 256
"""Queries in a block."""


# -- blocks


def _blocks(segments: Tensor, window: int) -> Iterator[tuple[int, int, list[tuple[int, int]], int]]:
    """Blocks of queries: start, stop, the ranges of keys they may see, and how many keys stand before the first query.

    The keys of a block are consecutive positions of one path, and the last of them are the queries themselves.
    """
    table = segments.tolist()
    for start, stop, depth, parent in table:
        path = []
        while parent >= 0:
            path.append((table[parent][0], table[parent][1]))
            parent = table[parent][3]
        path.reverse()
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            ranges = [*path, (start, high)]
            before = depth + low - start
            skip = max(0, before - window + 1) if window else 0
            yield low, high, _skipped(ranges, skip), before - skip


def _skipped(ranges: list[tuple[int, int]], skip: int) -> list[tuple[int, int]]:
    """Ranges without their first `skip` places."""
    kept = []
    for start, stop in ranges:
        drop = min(skip, stop - start)
        skip -= drop
        if start + drop < stop:
            kept.append((start + drop, stop))
    return kept


def _take(values: Tensor, ranges: list[tuple[int, int]]) -> Tensor:
    """Places of (KV, T, D), side by side."""
    if len(ranges) == 1:
        return values[:, ranges[0][0] : ranges[0][1]]
    return torch.cat([values[:, start:stop] for start, stop in ranges], dim=1)


def _scores(query: Tensor, key: Tensor, before: int, scale: float, window: int, softcap: float) -> Tensor:
    """Masked scores in fp32 (KV, G, m, n) of a block's queries (KV, G, m, D) and keys (KV, n, D)."""
    heads, group, size, width = query.shape
    raw = torch.bmm(query.reshape(heads, group * size, width), key.transpose(1, 2)).view(heads, group, size, -1)
    scores = raw.float().mul_(scale)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    at = torch.arange(size, device=key.device)[:, None] + before
    seen = torch.arange(scores.shape[-1], device=key.device)
    hidden = seen > at
    if window:
        hidden |= seen <= at - window
    return scores.masked_fill_(hidden, -torch.inf)


# -- the operator


@torch.library.custom_op("burnish::tree_attention", mutates_args=())  # type: ignore[untyped-decorator]
def tree_attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float
) -> tuple[Tensor, Tensor]:
    """Attention of every token to its path.

    Args:
        query: (1, H, T, D). key, value: (1, KV, T, D), with H a multiple of KV. segments: (S, 4) start, stop, depth,
        parent, depth first. scale: of the scores. window: positions that are seen, 0 for all. softcap: bound of the
        scores, 0 for none.
    Returns:
        The output (1, T, H, D), and the log-sum-exp of the scores (KV, G, T) in fp32, for the backward pass.
    """
    _, heads, total, _ = query.shape
    groups = key.shape[1]
    grouped = query[0].unflatten(0, (groups, heads // groups))  # (KV, G, T, D)
    output = query.new_empty(groups, heads // groups, total, value.shape[-1])
    normalizer = torch.empty(groups, heads // groups, total, dtype=torch.float32, device=query.device)
    for low, high, ranges, before in _blocks(segments, window):
        scores = _scores(grouped[:, :, low:high], _take(key[0], ranges), before, scale, window, softcap)
        lse = torch.logsumexp(scores, dim=-1)
        weights = scores.sub_(lse[..., None]).exp_().to(value.dtype)
        mixed = torch.bmm(weights.flatten(1, 2), _take(value[0], ranges))
        output[:, :, low:high] = mixed.view(groups, heads // groups, high - low, -1)
        normalizer[:, :, low:high] = lse
    return output.flatten(0, 1).transpose(0, 1)[None].contiguous(), normalizer


@tree_attention.register_fake  # type: ignore[untyped-decorator]
def _(query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float
      ) -> tuple[Tensor, Tensor]:  # fmt: skip
    _, heads, total, _ = query.shape
    groups = key.shape[1]
    output = query.new_empty(1, total, heads, value.shape[-1])
    return output, query.new_empty(groups, heads // groups, total, dtype=torch.float32)


@torch.library.custom_op("burnish::tree_attention_backward", mutates_args=())  # type: ignore[untyped-decorator]
def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, normalizer: Tensor, segments: Tensor,
    scale: float, window: int, softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value; the scores are made again."""
    shape = normalizer.shape[:2]  # (KV, G)
    grouped = query[0].unflatten(0, shape)
    grads = grad[0].transpose(0, 1).unflatten(0, shape)  # (KV, G, T, D)
    inner = (grad * output).sum(-1, dtype=torch.float32)[0].T.unflatten(0, shape)  # (KV, G, T)
    grad_query = torch.empty_like(grouped, memory_format=torch.contiguous_format)
    grad_key = torch.zeros(key.shape[1:], dtype=torch.float32, device=key.device)
    grad_value = torch.zeros(value.shape[1:], dtype=torch.float32, device=key.device)
    for low, high, ranges, before in _blocks(segments, window):
        keys, values = _take(key[0], ranges), _take(value[0], ranges)
        block = grouped[:, :, low:high]
        scores = _scores(block, keys, before, scale, window, softcap)
        weights = torch.exp(scores - normalizer[:, :, low:high, None])
        outer = grads[:, :, low:high].flatten(1, 2)  # (KV, G x m, D)
        change = torch.bmm(outer, values.transpose(1, 2)).view(scores.shape).float()
        change = change.sub_(inner[:, :, low:high, None]).mul_(weights)
        if softcap:  # d/dx c tanh(x / c) = 1 - tanh^2; where a score is masked the weight is already 0
            change = change.mul_(1 - (scores.clamp_min(-softcap) / softcap) ** 2)
        small = change.mul_(scale).to(query.dtype).flatten(1, 2)
        grad_query[:, :, low:high] = torch.bmm(small, keys).view(*shape, high - low, -1)
        _give(grad_key, ranges, torch.bmm(small.transpose(1, 2), block.flatten(1, 2)))
        _give(grad_value, ranges, torch.bmm(weights.to(value.dtype).flatten(1, 2).transpose(1, 2), outer))
    return grad_query.flatten(0, 1)[None], grad_key[None].to(key.dtype), grad_value[None].to(value.dtype)


@_backward.register_fake  # type: ignore[untyped-decorator]
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(one, memory_format=torch.contiguous_format) for one in (query, key, value))


def _give(total: Tensor, ranges: list[tuple[int, int]], part: Tensor) -> None:
    """Add a block's gradients to the places they belong to."""
    sizes = [stop - start for start, stop in ranges]
    for (start, stop), piece in zip(ranges, part.split(sizes, dim=1), strict=True):
        total[:, start:stop] += piece


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, segments, *settings = inputs
    ctx.save_for_backward(query, key, value, segments, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.settings = settings


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, segments, output, normalizer = ctx.saved_tensors
    found = _backward(grad.contiguous(), query, key, value, output, normalizer, segments, *ctx.settings)
    return *found, None, None, None, None


tree_attention.register_autograd(_differentiate, setup_context=_keep)


# -- on a GPU


_MASKS = WeakTensorKeyDictionary()
"""Block masks of a batch, by its segments and then by window; every layer asks for the same ones."""


def flex(query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float
         ) -> Tensor:  # fmt: skip
    """The same as `tree_attention`, by flex attention, which compiles to one kernel on a GPU."""
    from torch.nn.attention.flex_attention import flex_attention

    kernel = _compiled(flex_attention) if query.is_cuda else flex_attention

    def bounded(score: Tensor, *_: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    output = kernel(query, key, value, score_mod=bounded if softcap else None, scale=scale,
                    block_mask=_mask(segments, query.shape[2], query.device, window),
                    enable_gqa=query.shape[1] != key.shape[1])  # fmt: skip
    return output.transpose(1, 2).contiguous()


_compiled = cache(torch.compile)


def _mask(segments: Tensor, total: int, device: torch.device, window: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    masks = _MASKS.setdefault(segments, {})
    if window not in masks:
        positions, reach = (values.to(device) for values in reaches(segments))

        def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            seen = (k <= q) & (q < reach[k])
            return seen & (positions[q] - positions[k] < window) if window else seen

        masks[window] = create_block_mask(sees, None, None, total, total, device=device)
    return masks[window]


def reaches(segments: Tensor) -> tuple[Tensor, Tensor]:
    """Of every token (T,): its position in its row, and the place where the subtree of its segment ends."""
    table = segments.tolist()
    ends = [stop for _, stop, _, _ in table]
    for number in reversed(range(len(table))):
        parent = table[number][3]
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[number])
    positions = [torch.arange(depth, depth + stop - start) for start, stop, depth, _ in table]
    reach = [torch.full((stop - start,), end) for (start, stop, _, _), end in zip(table, ends, strict=True)]
    return torch.cat(positions), torch.cat(reach)


# -- in a model of transformers


def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, segments: Tensor,
    scaling: float | None = None, sliding_window: int | None = None, softcap: float | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers calls in every attention layer."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    settings = (segments, scale, sliding_window or 0, softcap or 0.0)
    if query.is_cuda:
        return flex(query, key, value, *settings), None
    return tree_attention(query, key, value, *settings)[0], None


def _no_mask(*_: Any, **__: Any) -> None:
    """Who sees whom is in the segments."""


AttentionInterface.register(NAME, _forward)
AttentionMaskInterface.register(NAME, _no_mask)


@contextmanager
def trees(backbone: Any) -> Iterator[None]:
    """Let a backbone attend over trees; its forward then needs `segments`."""
    before = backbone.config._attn_implementation
    backbone.config._attn_implementation = NAME
    try:
        yield
    finally:
        backbone.config._attn_implementation = before
