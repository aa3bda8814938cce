"""Attention over token trees: one function for training, scoring and every family that transformers dispatches.

On a CPU each segment attends to its path in blocks of queries. A block needs the keys up to itself and within the
window, so nothing larger than block x path exists, and the triangle above the diagonal is mostly never computed. Blocks
of alike sizes, such as many short rows, are one call. Who attends to what is planned once for all layers. Weights are
made again in the backward pass, so none are kept (as in FlashAttention, arXiv:2205.14135). On a GPU the same rule is a
mask for flex attention: depth first, the descendants of a token are one range of places, so a query q sees a key k when
k <= q < end of k's subtree.

Families with attention sinks have a score for each head that competes with the keys and has no value
(arXiv:2309.17453; learned in gpt-oss). It adds to what the weights are divided by, and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface

from burnish.models.kernels import compiled
from burnish.models.native import attention as native

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
    """Queries low .. high - 1, and the keys they may see.

    They are a part of one segment, whose keys are consecutive positions of one path; or several short segments behind
    the same path, which are one block so that the path is read once for all of them, and which do not see each other.
    """

    low: int
    high: int
    keys: list[tuple[int, int]]
    """Ranges of places; the last `high - low` of them are the queries themselves."""
    sizes: tuple[int, ...]
    """How many of the queries each segment has."""

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
    """The first key that any query does not see."""
    unseen: Tensor  # (B, 1, m, n - first) added to the scores of keys from `first` on: 0, or -inf for one not seen


def _blocks(segments: Tensor, window: int) -> Iterator[_Block]:
    table = segments.tolist()
    for group in _siblings(table):
        start, stop, depth, parent = table[group[0]]
        path = []
        while parent >= 0:
            path.append((table[parent][0], table[parent][1]))
            parent = table[parent][3]
        if len(group) > 1:
            sizes = tuple(table[number][1] - table[number][0] for number in group)
            stop = start + sum(sizes)
            skip = max(0, depth - window + 1) if window else 0
            yield _Block(start, stop, _skipped([*reversed(path), (start, stop)], skip), sizes)
            continue
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            skip = max(0, depth + low - start - window + 1) if window else 0
            yield _Block(low, high, _skipped([*reversed(path), (start, high)], skip), (high - low,))


def _siblings(table: list[list[int]]) -> Iterator[list[int]]:
    """Numbers of segments that are treated together: leaves that follow each other behind one path, while they have few
    tokens and no more than the path itself; every other segment alone."""
    parents = {parent for *_, parent in table}
    group: list[int] = []
    size = 0
    for number, (start, stop, depth, parent) in enumerate(table):
        new = stop - start
        joins = (bool(group) and parent >= 0 and table[group[0]][3] == parent and number not in parents
                 and group[-1] not in parents and size + new <= min(BLOCK, depth))  # fmt: skip
        if group and not joins:
            yield group
            group, size = [], 0
        group.append(number)
        size += new
    if group:
        yield group


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


def _pad(blocks: list[_Block], window: int, like: Tensor) -> _Group:
    most, widest = max(block.high - block.low for block in blocks), max(block.width for block in blocks)
    queries = torch.tensor([[min(low, block.high - 1) for low in range(block.low, block.low + most)]
                            for block in blocks])  # fmt: skip
    keys = torch.zeros(len(blocks), widest, dtype=torch.long)
    for number, block in enumerate(blocks):
        keys[number, : block.width] = torch.cat([torch.arange(*ends) for ends in block.keys])
    sizes = torch.tensor([block.high - block.low for block in blocks])[:, None]
    hidden = torch.stack([_hidden(block, most, widest, window) for block in blocks])
    real = torch.arange(most) < sizes
    hidden[..., 0] &= real  # padding sees one key, so that its weights are numbers
    hidden[..., 1:] |= ~real[..., None]
    whole = None if bool(real.all()) else real[:, None, :, None].to(like.device)
    any_hidden = hidden.flatten(0, 1).any(0)
    first = int(any_hidden.int().argmax()) if bool(any_hidden.any()) else widest
    unseen = torch.zeros(hidden.shape, dtype=like.dtype).masked_fill_(hidden, -torch.inf)[:, None, :, first:]
    return _Group(blocks, queries.to(like.device), keys.to(like.device), whole, first, unseen.to(like.device))


def _hidden(block: _Block, most: int, widest: int, window: int) -> Tensor:
    """Which of `widest` keys each of `most` queries does not see; the last ones of both may be padding."""
    before = block.width - (block.high - block.low)
    parts = torch.repeat_interleave(torch.arange(len(block.sizes)), torch.tensor(block.sizes))
    places = torch.cat([torch.arange(size) for size in block.sizes]) + before  # positions, counted as keys are
    keys = torch.full((widest,), widest + most)
    keys[:before], keys[before : block.width] = torch.arange(before), places
    owners = torch.full((widest,), -1)
    owners[before : block.width] = parts
    at, mine = torch.full((most,), before), torch.zeros(most, dtype=torch.long)
    at[: len(places)], mine[: len(places)] = places, parts
    hidden = (keys > at[:, None]) | ((owners >= 0) & (owners != mine[:, None]))
    return hidden | (keys <= at[:, None] - window) if window else hidden


def _plan(segments: Tensor, window: int, like: Tensor) -> list[_Group]:
    """How a batch's attention is computed; every layer with the same window asks for the same plan.

    Args:
        like: has the device and the dtype of the scores.
    """
    plans = _PLANS.setdefault(segments, {})
    if (window, like.dtype) not in plans:
        groups = [_pad(group, window, like) for group in _grouped(_blocks(segments, window))]
        plans[window, like.dtype] = groups
    plan: list[_Group] = plans[window, like.dtype]
    return plan


# -- the operator


def _by_head(values: Tensor) -> Tensor:
    """(1, H, T, D) as (H, T, D) with every head's tokens beside each other."""
    return values[0].contiguous()


def _take(values: Tensor, places: Tensor, ranges: list[tuple[int, int]]) -> Tensor:
    """Of (H, T, D) what stands at places (B, m): (H, B, m, D), a view where they are one range."""
    if len(places) == 1:  # a few long copies, or none
        parts = [values[:, slice(*ends)] for ends in ranges]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))[:, None]
    return values.index_select(1, places.flatten()).view(len(values), *places.shape, -1)


def _queries(values: Tensor, group: _Group, heads: int) -> Tensor:
    """Of (H, T, D) a group's queries, by the heads of keys: (KV x B, G x m, D)."""
    taken = _take(values, group.queries, [(group.blocks[0].low, group.blocks[0].high)])
    split = taken.unflatten(0, (heads, -1)).transpose(1, 2)  # (KV, B, G, m, D)
    return split.reshape(heads * len(group.blocks), -1, values.shape[-1])


def _keys(values: Tensor, group: _Group) -> Tensor:
    """Of (KV, T, D) a group's keys or values: (KV x B, n, D)."""
    return _take(values, group.keys, group.blocks[0].keys).flatten(0, 1)


def _put(total: Tensor, group: _Group, parts: Tensor, heads: int) -> None:
    """Write what a group's queries (KV x B, G x m, D) became to their places in (H, T, D)."""
    split = parts.view(heads, len(group.blocks), -1, group.queries.shape[1], parts.shape[-1])
    for number, block in enumerate(group.blocks):
        size = block.high - block.low
        total[:, block.low : block.high].unflatten(0, (heads, -1)).copy_(split[:, number, :, :size])


def _give(total: Tensor, group: _Group, parts: Tensor) -> None:
    """Add the gradients (KV x B, n, D) of a group's keys to the places they belong to (KV, T, D)."""
    split = parts.view(len(total), len(group.blocks), *parts.shape[1:])
    for number, block in enumerate(group.blocks):
        at = 0
        for start, stop in block.keys:
            total[:, start:stop] += split[:, number, at : at + stop - start]
            at += stop - start


def _weights(query: Tensor, key: Tensor, group: _Group, softcap: float, sinks: Tensor | None
             ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Softmax of the masked scores (KV x B, G x m, n) of scaled queries (KV x B, G x m, D) and keys (KV x B, n, D).

    In the model's dtype, with the sums in fp32. Also the slope of the soft cap at every score, when there is one; and
    with sinks (H,) the log of each query's sum of exp(score), its sink's too (KV x B, G x m, 1).
    """
    scores = torch.bmm(query, key.transpose(1, 2))
    slope = None
    if softcap:
        bent = torch.tanh(scores / softcap)
        scores, slope = bent * softcap, 1 - bent * bent
    blocks = scores.view(-1, len(group.blocks), query.shape[1] // group.queries.shape[1], *group.queries.shape[1:],
                         scores.shape[-1])[..., group.first :]  # fmt: skip
    blocks.add_(group.unseen)
    if sinks is None:
        return torch.softmax(scores, dim=-1), slope, None
    own = sinks.float().view(-1, 1, blocks.shape[2], 1, 1).expand(*blocks.shape[:-1], 1).reshape(*scores.shape[:-1], 1)
    sums = torch.logaddexp(scores.float().logsumexp(-1, keepdim=True), own)
    return (scores - sums).exp().to(scores.dtype), slope, sums


def tree_attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float,
    sinks: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Attention of every token to its path.

    Args:
        query: (1, H, T, D). key, value: (1, KV, T, D), with H a multiple of KV. segments: (S, 4) start, stop, depth,
        parent, depth first. scale: of the scores. window: positions that are seen, 0 for all. softcap: bound of the
        scores, 0 for none. sinks: the score of each head's sink (H,).
    Returns:
        The output (1, T, H, D).
    """
    output: Tensor = _attend(query, key, value, segments, scale, window, softcap, sinks)[0]
    return output


@torch.library.custom_op("burnish::tree_attention", mutates_args=())  # type: ignore[untyped-decorator]
def _attend(
    query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float,
    sinks: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The output (1, T, H, D), and of every query the log of its sum of exp(score) (H, T), where our own kernels or a
    sink's gradient need it."""
    if native.fits(query, key, value):
        output, sums = native.forward(query, key, value, segments, scale, window, softcap)
        if sinks is not None:
            keys_only, sums = sums, torch.logaddexp(sums, sinks.float()[:, None])
            output.mul_((keys_only - sums).exp().T[..., None])
        return output, sums
    heads = key.shape[1]
    queries, keys, values = _by_head(query * scale), _by_head(key), _by_head(value)
    output = query.new_empty(query.shape[2], query.shape[1], value.shape[-1])
    sums = query.new_empty(query.shape[1:3], dtype=torch.float32)
    for group in _plan(segments, window, query):
        weights, _, total = _weights(_queries(queries, group, heads), _keys(keys, group), group, softcap, sinks)
        _put(output.transpose(0, 1), group, torch.bmm(weights, _keys(values, group)), heads)
        if total is not None:
            _put(sums[..., None], group, total, heads)
    return output[None], sums


@_attend.register_fake  # type: ignore[untyped-decorator]
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    output = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    return output, query.new_empty(query.shape[1:3], dtype=torch.float32)


@torch.library.custom_op("burnish::tree_attention_backward", mutates_args=())  # type: ignore[untyped-decorator]
def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, sums: Tensor, segments: Tensor,
    scale: float, window: int, softcap: float, sinks: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value, shaped as they are; the weights are made again."""
    if native.fits(query, key, value):
        return native.backward(grad, query, key, value, output, sums, segments, scale, window, softcap)
    heads = key.shape[1]
    queries, keys, values = _by_head(query * scale), _by_head(key), _by_head(value)
    grads = _by_head(grad.transpose(1, 2))
    grad_query = grad.new_empty(query.shape[2], query.shape[1], query.shape[3])
    grad_key = torch.zeros(keys.shape, dtype=torch.float32, device=key.device)
    grad_value = torch.zeros(values.shape, dtype=torch.float32, device=value.device)
    for group in _plan(segments, window, query):
        taken, seen = _queries(queries, group, heads), _keys(keys, group)
        weights, slope, _ = _weights(taken, seen, group, softcap, sinks)
        outer = _queries(grads, group, heads)
        if group.real is not None:  # padding gives no gradient
            outer = (outer.view(heads, len(group.blocks), -1, group.queries.shape[1], outer.shape[-1]) * group.real
                     ).view(*outer.shape)  # fmt: skip
        change = torch.bmm(outer, _keys(values, group).transpose(1, 2))
        change = torch.ops.aten._softmax_backward_data(change, weights, -1, change.dtype)
        if slope is not None:
            change = change * slope
        _put(grad_query.transpose(0, 1), group, torch.bmm(change, seen), heads)
        _give(grad_key, group, torch.bmm(change.transpose(1, 2), taken))
        _give(grad_value, group, torch.bmm(weights.transpose(1, 2), outer))
    made = (grad_query.mul_(scale).transpose(0, 1), grad_key.to(key.dtype), grad_value.to(value.dtype))
    first, second, third = (one[None] for one in made)
    return first, second, third


@_backward.register_fake  # type: ignore[untyped-decorator]
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    by_token = [one.new_empty(1, one.shape[2], one.shape[1], one.shape[3]).transpose(1, 2)
                for one in (query, key, value)]  # fmt: skip
    if native.fits(query, key, value):
        return by_token[0], by_token[1], by_token[2]
    return by_token[0], key.new_empty(key.shape), value.new_empty(value.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, segments, *settings, sinks = inputs
    ctx.save_for_backward(query, key, value, *output, segments, *([] if sinks is None else [sinks]))
    ctx.settings = settings


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, output, sums, segments, *rest = ctx.saved_tensors
    (sinks,) = rest or [None]
    grad = grad.contiguous()
    slopes = _backward(grad, query, key, value, output, sums, segments, *ctx.settings, sinks)
    return *slopes, None, None, None, None, None if sinks is None else _sinks_slope(sinks, grad, output, sums)


def _sinks_slope(sinks: Tensor, grad: Tensor, output: Tensor, sums: Tensor) -> Tensor:
    """The gradient of sinks (H,): as of any score its weight times what the upstream gradient makes of its value, which
    is none, less what it makes of the output."""
    given = (grad.float() * output.float()).sum(-1)[0].T  # (H, T)
    return -((sinks.float()[:, None] - sums).exp() * given).sum(1).to(sinks.dtype)


_attend.register_autograd(_differentiate, setup_context=_keep)


# -- on a GPU


NARROWEST = 16
"""Fewest dimensions of a head that flex attention has a kernel for."""
KERNEL = {"FORCE_USE_FLEX_ATTENTION": True}
"""Not the kernel for decoding, which torch would take below 128 tokens and which does not know every shape."""
_MASKS = WeakTensorKeyDictionary()
"""Block masks of a batch, by its segments and then by window; every layer asks for the same ones."""
Masks = dict[int, Any]
"""Block masks by window."""
_WINDOWS: WeakKeyDictionary[Any, frozenset[int]] = WeakKeyDictionary()
"""The windows of a backbone's layers, once they are known."""


def masks_of(backbone: Any, segments: Tensor, total: int, device: torch.device) -> Tensor | Masks:
    """What a backbone's layers are handed: on a GPU the mask of every window they are known to ask for, so that
    compiled layers find it ready; else the segments."""
    windows = _WINDOWS.get(backbone)
    if device.type != "cuda" or windows is None:
        return segments
    return {window: _mask(segments, total, device, window) for window in windows}


def flex(query: Tensor, key: Tensor, value: Tensor, segments: Tensor | Masks, scale: float, window: int, softcap: float,
         sinks: Tensor | None = None) -> Tensor:  # fmt: skip
    """The same as `tree_attention`, by flex attention, which compiles to one kernel on a GPU."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    kernel = flex_attention if torch.compiler.is_compiling() or not query.is_cuda else compiled(flex_attention)
    mask = _mask(segments, query.shape[2], query.device, window) if isinstance(segments, Tensor) else segments[window]
    width = value.shape[-1]
    query, key, value = (  # zeros change no score
        pad(one, (0, NARROWEST - one.shape[-1])) if one.shape[-1] < NARROWEST else one for one in (query, key, value)
    )

    most = torch.full((), softcap, device=query.device) if softcap else None  # a number would compile anew for each

    def bounded(score: Tensor, *_: Tensor) -> Tensor:
        return most * torch.tanh(score / most)

    settings: dict[str, Any] = {"score_mod": None if most is None else bounded, "scale": scale, "block_mask": mask,
                                "enable_gqa": query.shape[1] != key.shape[1], "kernel_options": KERNEL}  # fmt: skip
    if sinks is None:
        output = kernel(query, key, value, **settings)
    else:
        output, also = kernel(query, key, value, **settings, return_aux=AuxRequest(lse=True))
        share = torch.sigmoid(also.lse - sinks.float()[None, :, None])[..., None]  # what the sink leaves for the keys
        output = (output * share).to(output.dtype)
    return output[..., :width].transpose(1, 2).contiguous()


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _mask(segments: Tensor, total: int, device: torch.device, window: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    masks = _MASKS.setdefault(segments, {})
    if window not in masks:
        positions, reach = (values.to(device) for values in reaches(segments))

        def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            seen = (k <= q) & (q < reach[k])
            return seen & (positions[q] - positions[k] < window) if window else seen

        make = compiled(create_block_mask) if device.type == "cuda" else create_block_mask  # eager makes T x T first
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


KNOWN_TENSORS = ("position_ids", "cache_position")
"""What is handed on to every attention function, and says nothing that the segments do not say."""
_windows: set[int] | None = None
"""While `windows_seen` lasts, the windows that layers have asked for."""


@contextmanager
def windows_seen(backbone: Any) -> Iterator[set[int]]:
    """Collects the windows that a backbone's layers hand to the attention function, and remembers them; 0 for none."""
    global _windows
    seen: set[int] = set()
    _windows = seen
    try:
        yield seen
        _WINDOWS[backbone] = frozenset(seen)
    finally:
        _windows = None


def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, segments: Tensor | Masks,
    scaling: float | None = None, sliding_window: int | None = None, softcap: float | None = None,
    s_aux: Tensor | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers calls in every attention layer; `s_aux` is what it calls sinks.

    Raises TypeError where a family asks for more than is computed here: a mask of its own, biases.
    """
    foreign = [name for name, held in {"attention_mask": attention_mask, **others}.items()
               if isinstance(held, Tensor) and name not in KNOWN_TENSORS]  # fmt: skip
    if foreign:
        raise TypeError(f"it is asked for {', '.join(foreign)}")
    if _windows is not None:
        _windows.add(sliding_window or 0)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    settings = (segments, scale, sliding_window or 0, softcap or 0.0, s_aux)
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
