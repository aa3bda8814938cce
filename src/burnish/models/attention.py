"""Attention over token trees: one function for training, scoring and every family that transformers dispatches.

On a CPU each segment attends to its path in blocks of queries. A block needs the keys up to itself and within the
window, so nothing larger than block x path exists, and the triangle above the diagonal is mostly never computed. Blocks
of alike sizes, such as many short rows, are one call. Who attends to what is planned once for all layers. Weights are
made again in the backward pass, so none are kept (as in FlashAttention, arXiv:2205.14135). On a GPU the same rule is a
mask for flex attention: depth first, the descendants of a token are one range of places, so a query q sees a key k when
k <= q < end of k's subtree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "burnish_tree"
"""Its name in transformers' attention interface."""
BLOCK = 128
"""Most queries in a block."""
WASTE = 1.25
"""Most work on padding, within attention alone, that saves calls by treating blocks of unlike sizes as one."""

_PLANS = WeakTensorKeyDictionary()
"""Plans of a batch by its segments, then by window."""


# -- what attends to what


@dataclass(frozen=True)
class _Block:
    """Queries low .. high - 1 of one segment, and the keys they may see: consecutive positions of one path."""

    low: int
    high: int
    keys: list[tuple[int, int]]
    """Ranges of places; the last `high - low` of them are the queries themselves."""

    @property
    def width(self) -> int:
        return sum(stop - start for start, stop in self.keys)


@dataclass(frozen=True)
class _Group:
    """Blocks of alike sizes, padded to one: B blocks of m queries and n keys."""

    blocks: list[_Block]
    queries: Tensor  # (B, m) places
    keys: Tensor  # (B, n) places
    real: Tensor | None  # (B, 1, m, 1) which queries are not padding; None when all are
    first: int
    """The first key that is hidden from any query."""
    hidden: Tensor  # (B, 1, m, n - first) which of the keys from `first` on a query does not see


@dataclass(frozen=True)
class _Plan:
    groups: list[_Group]
    inverse: Tensor  # (T,) where each token stands among the queries of all groups


def _blocks(segments: Tensor, window: int) -> Iterator[_Block]:
    table = segments.tolist()
    for start, stop, depth, parent in table:
        path = []
        while parent >= 0:
            path.append((table[parent][0], table[parent][1]))
            parent = table[parent][3]
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            skip = max(0, depth + low - start - window + 1) if window else 0
            yield _Block(low, high, _skipped([*reversed(path), (start, high)], skip))


def _skipped(ranges: list[tuple[int, int]], skip: int) -> list[tuple[int, int]]:
    """Ranges without their first `skip` places."""
    kept = []
    for start, stop in ranges:
        drop = min(skip, stop - start)
        skip -= drop
        if start + drop < stop:
            kept.append((start + drop, stop))
    return kept


def _grouped(blocks: Iterator[_Block]) -> Iterator[list[_Block]]:
    """Blocks that may be padded to one size: little is wasted, and the scores of a group fit a core's cache."""
    group: list[_Block] = []
    area = 0
    for block in sorted(blocks, key=lambda one: (one.high - one.low, one.width)):
        size = (block.high - block.low) * block.width
        padded = (len(group) + 1) * (block.high - block.low) * max(block.width, *(one.width for one in group), 0)
        if group and (padded > WASTE * (area + size) or padded > BLOCK * BLOCK * 4):
            yield group
            group, area = [], 0
        group.append(block)
        area += size
    if group:
        yield group


def _pad(blocks: list[_Block], window: int, device: torch.device) -> _Group:
    most, widest = max(block.high - block.low for block in blocks), max(block.width for block in blocks)
    queries = torch.tensor([[min(low, block.high - 1) for low in range(block.low, block.low + most)]
                            for block in blocks])  # fmt: skip
    keys = torch.zeros(len(blocks), widest, dtype=torch.long)
    for number, block in enumerate(blocks):
        keys[number, : block.width] = torch.cat([torch.arange(*ends) for ends in block.keys])
    sizes = torch.tensor([block.high - block.low for block in blocks])[:, None]
    before = torch.tensor([block.width for block in blocks])[:, None] - sizes
    at = torch.arange(most) + before  # (B, m) the number of its own key
    seen = torch.arange(widest)
    hidden = seen > at[..., None]
    if window:
        hidden |= seen <= at[..., None] - window
    real = torch.arange(most) < sizes
    hidden[..., 0] &= real  # padding sees one key, so that its weights are numbers
    hidden[..., 1:] |= ~real[..., None]
    whole = None if bool(real.all()) else real[:, None, :, None].to(device)
    any_hidden = hidden.flatten(0, 1).any(0)
    first = int(any_hidden.int().argmax()) if bool(any_hidden.any()) else widest
    return _Group(blocks, queries.to(device), keys.to(device), whole, first, hidden[:, None, :, first:].to(device))


def _plan(segments: Tensor, window: int, device: torch.device) -> _Plan:
    """How a batch's attention is computed; every layer with the same window asks for the same plan."""
    plans = _PLANS.setdefault(segments, {})
    if window not in plans:
        groups = [_pad(group, window, device) for group in _grouped(_blocks(segments, window))]
        inverse = torch.empty(int(segments[:, 1].max()), dtype=torch.long)
        at = 0
        for group in groups:
            for number, block in enumerate(group.blocks):
                first = at + number * group.queries.shape[1]
                inverse[block.low : block.high] = torch.arange(first, first + block.high - block.low)
            at += group.queries.numel()
        plans[window] = _Plan(groups, inverse.to(device))
    plan: _Plan = plans[window]
    return plan


# -- the operator


def _rows(values: Tensor) -> Tensor:
    """(1, H, T, D) as (T, H, D); usually a view, for models make heads by transposing."""
    return values[0].transpose(0, 1)


def _take(rows: Tensor, places: Tensor, heads: int) -> Tensor:
    """Rows (T, H, D) at places (B, m), by groups of heads: (B x KV, G x m, D)."""
    taken = rows.index_select(0, places.flatten()).view(*places.shape, heads, -1, rows.shape[-1])
    return taken.permute(0, 2, 3, 1, 4).reshape(len(places) * heads, -1, rows.shape[-1])


def _back(values: Tensor, places: Tensor, heads: int) -> Tensor:
    """What `_take` gave, as rows again: (B x m, H, D)."""
    split = values.view(len(places), heads, -1, places.shape[1], values.shape[-1])
    return split.permute(0, 3, 1, 2, 4).reshape(places.numel(), -1, values.shape[-1])


def _weights(query: Tensor, key: Tensor, group: _Group, scale: float, softcap: float) -> tuple[Tensor, Tensor | None]:
    """Softmax of the masked scores (B x KV, G x m, n) of queries (B x KV, G x m, D) and keys (B x KV, n, D).

    In the model's dtype, with the sums in fp32. Also the slope of the soft cap at every score, when there is one.
    """
    scores = torch.bmm(query * scale, key.transpose(1, 2))
    slope = None
    if softcap:
        bent = torch.tanh(scores / softcap)
        scores, slope = bent * softcap, 1 - bent * bent
    blocks = scores.view(len(group.queries), -1, *group.queries.shape[1:], scores.shape[-1])
    blocks[..., group.first :].masked_fill_(group.hidden, -torch.inf)
    return torch.softmax(scores, dim=-1), slope


@torch.library.custom_op("burnish::tree_attention", mutates_args=())  # type: ignore[untyped-decorator]
def tree_attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float
) -> Tensor:
    """Attention of every token to its path.

    Args:
        query: (1, H, T, D). key, value: (1, KV, T, D), with H a multiple of KV. segments: (S, 4) start, stop, depth,
        parent, depth first. scale: of the scores. window: positions that are seen, 0 for all. softcap: bound of the
        scores, 0 for none.
    Returns:
        The output (1, T, H, D).
    """
    heads = key.shape[1]
    queries, keys, values = _rows(query), _rows(key), _rows(value)
    plan = _plan(segments, window, query.device)
    outputs = []
    for group in plan.groups:
        weights, _ = _weights(
            _take(queries, group.queries, heads), _take(keys, group.keys, heads), group, scale, softcap
        )
        outputs.append(_back(torch.bmm(weights, _take(values, group.keys, heads)), group.queries, heads))
    return torch.cat(outputs).index_select(0, plan.inverse)[None]


@tree_attention.register_fake  # type: ignore[untyped-decorator]
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    return query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])


@torch.library.custom_op("burnish::tree_attention_backward", mutates_args=())  # type: ignore[untyped-decorator]
def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, shaped as they are; the weights are made again."""
    heads = key.shape[1]
    queries, keys, values, grads = _rows(query), _rows(key), _rows(value), grad[0]
    plan = _plan(segments, window, query.device)
    grad_queries = []
    grad_key = torch.zeros(keys.shape, dtype=torch.float32, device=key.device)
    grad_value = torch.zeros(values.shape, dtype=torch.float32, device=value.device)
    for group in plan.groups:
        taken, seen = _take(queries, group.queries, heads), _take(keys, group.keys, heads)
        weights, slope = _weights(taken, seen, group, scale, softcap)
        outer = _take(grads, group.queries, heads)
        if group.real is not None:  # padding gives no gradient
            outer = outer.view(len(group.queries), -1, *group.queries.shape[1:], outer.shape[-1])
            outer = (outer * group.real).view(*taken.shape[:2], -1)
        change = torch.bmm(outer, _take(values, group.keys, heads).transpose(1, 2))
        change = torch.ops.aten._softmax_backward_data(change, weights, -1, change.dtype)
        if slope is not None:
            change = change * slope
        grad_queries.append(_back(torch.bmm(change, seen), group.queries, heads))
        _give(grad_key, group, torch.bmm(change.transpose(1, 2), taken))
        _give(grad_value, group, torch.bmm(weights.transpose(1, 2), outer))
    grad_query = torch.cat(grad_queries).index_select(0, plan.inverse) * scale
    rows = (grad_query, grad_key.mul_(scale).to(key.dtype), grad_value.to(value.dtype))
    first, second, third = (one.transpose(0, 1)[None] for one in rows)
    return first, second, third


@_backward.register_fake  # type: ignore[untyped-decorator]
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = (
        one.new_empty(one.shape[2], one.shape[1], one.shape[3]).transpose(0, 1)[None] for one in (query, key, value)
    )
    return first, second, third


def _give(total: Tensor, group: _Group, parts: Tensor) -> None:
    """Add the gradients (B x KV, n, D) of a group's keys to the places they belong to (T, KV, D)."""
    rows = _back(parts, group.keys, total.shape[1]).view(*group.keys.shape, *total.shape[1:])
    for block, part in zip(group.blocks, rows, strict=True):
        at = 0
        for start, stop in block.keys:
            total[start:stop] += part[at : at + stop - start]
            at += stop - start


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.settings = inputs[4:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward(grad.contiguous(), *ctx.saved_tensors, *ctx.settings), None, None, None, None


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


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=True)  # every batch has another number of tokens


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _mask(segments: Tensor, total: int, device: torch.device, window: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    masks = _MASKS.setdefault(segments, {})
    if window not in masks:
        positions, reach = (values.to(device) for values in reaches(segments))

        def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            seen = (k <= q) & (q < reach[k])
            return seen & (positions[q] - positions[k] < window) if window else seen

        make = _compiled(create_block_mask) if device.type == "cuda" else create_block_mask  # eager makes T x T first
        masks[window] = make(sees, None, None, total, total, device=device)
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


_windows: set[int] | None = None
"""While `windows_seen` lasts, the windows that layers have asked for."""


@contextmanager
def windows_seen() -> Iterator[set[int]]:
    """Collects the windows that a model's layers hand to the attention function; 0 for none."""
    global _windows
    seen: set[int] = set()
    _windows = seen
    try:
        yield seen
    finally:
        _windows = None


def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, segments: Tensor,
    scaling: float | None = None, sliding_window: int | None = None, softcap: float | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers calls in every attention layer."""
    if _windows is not None:
        _windows.add(sliding_window or 0)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    settings = (segments, scale, sliding_window or 0, softcap or 0.0)
    if query.is_cuda:
        return flex(query, key, value, *settings), None
    return tree_attention(query, key, value, *settings), None


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
