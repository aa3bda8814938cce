"""Log-probabilities of chosen tokens without keeping logits.

The head (a matrix of V x H) is applied only to the hidden states that predict a supervised token, a part of the
vocabulary at a time. A part's logits live until the next; of each row its maximum and its sum go on. Memory is rows x
part instead of B x T x V (on a CPU a few more parts are kept for the backward pass), the work at unsupervised positions
is none, and every part of the head's gradient is written once. The products run in the model's dtype (bf16 has matrix
instructions), the log-sum-exp in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor
from torch.nn.functional import pad

from burnish.errors import ModelError
from burnish.models.attention import masks_of, trees
from burnish.models.kernels import extra_rows, few_kernels
from burnish.models.layout import Batch, Tree
from burnish.models.native import head as native
from burnish.models.native.linear import weight_gradient

CHUNK = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Logits held at once by kind of device: on a CPU 32 MiB in fp32, which its caches help with; on a GPU, where products
are fast when they are large, 256 MiB in bf16."""
KEPT = {"cpu": 1 << 27}
"""Bytes of logits kept for the backward pass by kind of device, where the head learns; the others are made again."""
NARROWEST = 256
"""Parts of the vocabulary are multiples of it: narrower products waste the matrix units, and a GPU has its fast ones
for rows that begin at multiples of 16 bytes."""
SCALES = ("logit_scale", "lm_head_multiplier")
"""Settings that logits are multiplied by: Cohere's, Falcon H1's."""
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Settings of soft caps: Gemma 2's, RecurrentGemma's, xLSTM's."""
Losses = Callable[[Tensor, Tensor, Tensor], Tensor]
P = ParamSpec("P")


@dataclass(frozen=True)
class Head:
    """How hidden states become logits: matrix, bias, and the scalings that some families put behind it."""

    weight: Tensor
    """(V, S) for states of S numbers: the hidden ones, and what adapters on the head make of them."""
    bias: Tensor | None
    scale: float
    """Logits are multiplied by it (Cohere's logit_scale, 1 / Granite's logits_scaling)."""
    softcap: float | None
    """cap * tanh(logits / cap), Gemma 2's final soft-capping."""
    adapters: Sequence[Callable[[Tensor], Tensor]] = ()
    """What adapters multiply by the last columns of the matrix, from hidden states."""

    def states(self, hidden: Tensor) -> Tensor:
        """What the matrix is applied to (N, S), from hidden states (N, H)."""
        hidden = hidden.to(self.weight.dtype)
        return torch.cat([hidden, *(adapter(hidden) for adapter in self.adapters)], -1) if self.adapters else hidden


def head_of(model: Any) -> Head:
    """The head of a causal language model, with its low-rank adapters: W h + B A h = [W B] [h; A h].

    Raises ModelError for adapters of another kind.
    """
    layer = model.get_output_embeddings()
    config = model.config.get_text_config()
    names = _adapters_on(layer)
    weight = torch.cat([layer.weight, *(layer.lora_B[name].weight for name in names)], 1) if names else layer.weight
    softcap = next((cap for key in SOFTCAPS if (cap := getattr(config, key, None))), None)
    return Head(weight, getattr(layer, "bias", None), _scale(config), softcap,
                [partial(_adapted_states, layer, name) for name in names])  # fmt: skip


def _scale(config: Any) -> float:
    """What a family multiplies its logits by."""
    scale = math.prod(float(getattr(config, key, None) or 1.0) for key in SCALES)
    divided = float(getattr(config, "logits_scaling", None) or 1.0)  # by Granite, while HyperCLOVA X multiplies by it
    return scale * divided if "hyperclova" in str(config.model_type) else scale / divided


def _adapters_on(layer: Any) -> list[str]:
    """The names of the adapters that change what a layer gives."""
    if not hasattr(layer, "base_layer") or layer.disable_adapters or layer.merged:
        return []
    if not hasattr(layer, "lora_A") or layer.lora_variant or any(layer.lora_bias.values()):
        raise ModelError("the head has an adapter that is not plain LoRA", where=type(layer).__name__,
                         hint="train the head whole (`also: [head]`), or leave it out of the targets")  # fmt: skip
    return [name for name in layer.active_adapters if name in layer.lora_A]


def _adapted_states(layer: Any, name: str, hidden: Tensor) -> Tensor:
    down = layer.lora_A[name]
    inner = down(layer.lora_dropout[name](hidden.to(down.weight.dtype)))
    found: Tensor = inner.mul(layer.scaling[name]).to(hidden.dtype)
    return found


def backbone_of(model: Any) -> Any:
    """The part of a causal language model that gives hidden states, with an adapter's layers in place."""
    from transformers import PreTrainedModel

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = inner.get_decoder() if hasattr(inner, "get_decoder") else None
    parts = (decoder, inner.base_model, getattr(inner, "model", None))  # some name the whole model, or its last matrix
    return next((part for part in parts if isinstance(part, PreTrainedModel) and part is not inner), inner.base_model)


def freeze_unread(model: Any) -> int:
    """Keep from learning what text does not pass through, such as a vision tower: how many numbers. It has no gradient,
    but would decay, and take memory for moments."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    parts = (backbone_of(model), model.get_output_embeddings(), getattr(inner, "score", None))
    read = {id(weight) for part in parts if part is not None for weight in part.parameters()}
    frozen = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in read]
    for weight in frozen:
        weight.requires_grad_(False)
    return sum(weight.numel() for weight in frozen)


APPLY = "apply_whole"
"""What a model whose weights are split over processes has: a method that runs a function while they are gathered."""


def of_whole(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """A function of a model, run where its weights are whole. All that reads weights beside the layers must be in it,
    the head above all."""

    @wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> Tensor:
        split = getattr(arguments[0], APPLY, None)
        return function(*arguments, **named) if split is None else split(function, *arguments[1:], **named)

    return run


@of_whole
def token_logprobs(model: Any, batch: Batch) -> Tensor:
    """Log-probability in nats of each row's learned tokens given what is before them, fp32 (M,), row after row."""
    hidden = hidden_states(model, batch).index_select(0, batch.sources)
    return head_logprobs(hidden, batch.targets, head_of(model)).index_select(0, batch.picks)


def hidden_states(model: Any, batch: Batch) -> Tensor:
    """Last hidden states (B x T, H) of a batch's tokens."""
    backbone = backbone_of(model)
    if batch.segments is not None:
        return _over_trees(backbone, batch.ids, batch.positions, batch.segments)
    out = backbone(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    states: Tensor = out.last_hidden_state.flatten(0, 1)
    return states


def tree_states(model: Any, tree: Tree) -> Tensor:
    """Last hidden states (T, H) of the tokens of planted rows."""
    backbone = backbone_of(model)
    device = next(backbone.parameters()).device
    ids, positions = torch.tensor([tree.ids], device=device), torch.from_numpy(tree.positions()[None]).to(device)
    return _over_trees(backbone, ids, positions, tree.table())


def _over_trees(backbone: Any, ids: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
    total = ids.shape[1]
    if more := extra_rows(total, next(backbone.parameters())):  # a tree of its own, which no other token sees
        ids, positions = pad(ids, (0, more)), pad(positions, (0, more))
        segments = torch.cat([segments, torch.tensor([[total, total + more, 0, -1]])])
    seen = masks_of(backbone, segments, total + more, ids.device)
    with trees(backbone):
        out = backbone(input_ids=ids, position_ids=positions, segments=seen, use_cache=False)
    states: Tensor = out.last_hidden_state.flatten(0, 1)
    return states[:total]


def head_logprobs(hidden: Tensor, tokens: Tensor, head: Head) -> Tensor:
    """Log-probability of tokens (N,) under the head applied to hidden states (N, H); fp32 (N,)."""
    rows, hidden = len(tokens), head.states(hidden)
    if more := extra_rows(rows, head.weight):
        hidden, tokens = pad(hidden, (0, 0, 0, more)), pad(tokens, (0, more))
    result: Tensor = _HeadLogprobs.apply(hidden, head.weight, head.bias, tokens, head, torch.is_grad_enabled())
    return result[:rows]


def head_pairs(losses: Losses, hidden: Tensor, head: Head, other: Tensor, other_head: Head, tokens: Tensor) -> Tensor:
    """Losses (N,) of two models' logits at the same places, neither of which are kept.

    Args:
        losses: from both models' logits (n, V) and the tokens (n,) the loss of each (n,). hidden: states of the model
            that learns (N, H). other: states of the model it is compared with, without gradient (N, G).
    """
    from torch.utils.checkpoint import checkpoint

    size = min(head.weight.shape[0], other_head.weight.shape[0])  # heads may be padded to different widths

    def part(states: Tensor, weight: Tensor, others: Tensor, chosen: Tensor) -> Tensor:
        learning = logits_of(states, replace(head, weight=weight))
        return losses(learning[:, :size], logits_of(others, other_head)[:, :size], chosen)

    rows = max(1, chunk(hidden) // size)
    parts = [
        checkpoint(part, states, head.weight, others, chosen, use_reentrant=False)
        for states, others, chosen in zip(hidden.split(rows), other.split(rows), tokens.split(rows), strict=True)
    ]
    return torch.cat(parts)


def logits_of(hidden: Tensor, head: Head) -> Tensor:
    """Logits in fp32 (N, V) of hidden states (N, H)."""
    raw = torch.nn.functional.linear(head.states(hidden), head.weight, head.bias)
    return _finish(raw, head.scale, head.softcap)


def _finish(raw: Tensor, scale: float, softcap: float | None) -> Tensor:
    logits = raw.float()
    if scale != 1.0:
        logits = logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _slope(logits: Tensor, scale: float, softcap: float | None) -> Tensor | float:
    """d logits / d (what the matrix gave)."""
    return scale if softcap is None else scale * (1 - (logits / softcap) ** 2)


def chunk(like: Tensor) -> int:
    """Logits to hold at once where a tensor is."""
    return CHUNK.get(like.device.type, CHUNK["cpu"])


def _parts(states: Tensor, head: Head, kept: dict[int, Tensor], room: int = 0
           ) -> Iterator[tuple[int, int, Tensor, Tensor]]:  # fmt: skip
    """The head in parts: first token, end, the part's weights, and what they give (N, v). All parts' logits that are
    not kept lie in the same memory, one after the other.

    Args:
        kept: by a part's first token what it gives. It is taken out where it is known, and put in while there is room.
        room: bytes for what is put in.
    """
    vocabulary, rows = len(head.weight), len(states)
    size = min(vocabulary, max(1, chunk(head.weight) // max(1, rows) // NARROWEST) * NARROWEST)
    memory = states.new_empty(rows * size)
    for low in range(0, vocabulary, size):
        high = min(low + size, vocabulary)
        weight, raw = head.weight[low:high], kept.pop(low, None)
        if raw is None:
            raw = memory[: rows * (high - low)].view(rows, high - low)
            if room >= raw.nbytes:
                raw = kept[low] = torch.empty_like(raw)
                room -= raw.nbytes
            if head.bias is None:
                torch.mm(states, weight.T, out=raw)
            else:
                torch.addmm(head.bias[low:high], states, weight.T, out=raw)
        yield low, high, weight, raw


def _placed(tokens: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Where tokens, counted from a part's first, stand in it (N, 1), and which are in it (N,)."""
    return tokens.clamp(0, width - 1)[:, None], (tokens >= 0) & (tokens < width)


@partial(few_kernels, native=native.taken_in)
def _taken_in(raw: Tensor, tokens: Tensor, most: Tensor, total: Tensor, chosen: Tensor, scale: float,
              softcap: float | None, learns: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Take a part's logits into the log-sum-exp.

    Args:
        raw: what the part's matrix gave (N, v). tokens: counted from the part's first (N,). most, total, chosen: of
            each row so far (N,) the largest logit, the sum of exp(logit - most), and the token's logit.
    Returns:
        The same three with this part in them, by how much earlier sums shrink (N,), and if the states learn
        exp(logit - most) times the slope, in raw's dtype (N, v).
    """
    logits = _finish(raw, scale, softcap)
    index, inside = _placed(tokens, raw.shape[1])
    chosen = torch.where(inside, logits.gather(1, index)[:, 0], chosen)
    before, most = most, torch.maximum(most, logits.amax(-1))
    shrink = (before - most).exp()
    slope = _slope(logits, scale, softcap) if learns else 1.0
    parts = (logits - most[:, None]).exp_()  # not in the logits' place, who may be kept
    total = total * shrink + parts.sum(-1)
    return most, total, chosen, shrink, parts.mul_(slope).to(raw.dtype) if learns else shrink


@partial(few_kernels, native=native.pushed)
def _pushed(raw: Tensor, tokens: Tensor, normalizer: Tensor, given: Tensor, scale: float, softcap: float | None,
            sums: bool) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradient of what a part's matrix gave (N, v), in its dtype, and its sum over the rows (v,) if asked for."""
    logits = _finish(raw, scale, softcap)
    index, inside = _placed(tokens, raw.shape[1])
    own = logits.gather(1, index)[:, 0]
    pull = given * _slope(own, scale, softcap)
    slope = _slope(logits, scale, softcap)
    delta = logits.sub_(normalizer[:, None]).exp_().mul_(given[:, None] * slope).neg_()  # -softmax
    added = delta.sum(0).index_add(0, index[:, 0], pull * inside) if sums else given
    small = delta.to(raw.dtype)
    mine = torch.where(inside, ((1 - (own - normalizer).exp()) * pull).to(raw.dtype), small.gather(1, index)[:, 0])
    return small.scatter_(1, index, mine[:, None]), added  # 1 - softmax at the tokens


class _HeadLogprobs(torch.autograd.Function):  # type: ignore[misc]
    """log softmax(head(h))[token], the vocabulary in parts, no part's logits kept.

    d value / d h = slope[token] W[token] - sum over v of p(v) slope(v) W(v). Where the head is frozen (an adapter),
    that is known with the value itself: it is attention with the head's rows as keys and as values, rescaled as the
    maximum rises (as in FlashAttention, arXiv:2205.14135), and the logits are made once. Where the head learns, its
    gradient waits for the gradient of the values, and logits that were not kept are made again.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, head: Head, learns: bool
                ) -> Tensor:  # fmt: skip
        settings = (head.scale, head.softcap)
        most = torch.full(tokens.shape, -torch.inf, device=hidden.device)
        total, chosen = torch.zeros_like(most), torch.zeros_like(most)
        ctx.once = learns and not any(ctx.needs_input_grad[1:3])
        pull = torch.zeros(hidden.shape, device=hidden.device) if ctx.once else None
        ctx.kept = {}
        room = KEPT.get(hidden.device.type, 0) if learns and not ctx.once else 0
        for low, _, part, raw in _parts(hidden, head, ctx.kept, room):
            most, total, chosen, shrink, parts = _taken_in(raw, tokens - low, most, total, chosen, *settings, ctx.once)
            if pull is not None:
                pull.mul_(shrink[:, None]).add_(parts @ part)
        if pull is not None:
            own = weight[tokens].float() * torch.as_tensor(_slope(chosen, *settings), device=most.device).view(-1, 1)
            ctx.save_for_backward((own - pull / total[:, None]).to(hidden.dtype))
        else:
            ctx.save_for_backward(hidden, weight, tokens, most + total.log(), *([] if bias is None else [bias]))
        ctx.head = head
        return chosen - most - total.log()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (given,) = grads
        if ctx.once:
            (slopes,) = ctx.saved_tensors
            return slopes * given[:, None].to(slopes.dtype), None, None, None, None, None
        hidden, weight, tokens, normalizer, *rest = ctx.saved_tensors
        head = replace(ctx.head, weight=weight, bias=rest[0] if rest else None)
        grad_hidden = torch.zeros(hidden.shape, device=hidden.device)
        grad_weight = torch.empty_like(weight)
        grad_bias = torch.empty_like(rest[0]) if rest else None
        for low, high, part, raw in _parts(hidden, head, ctx.kept):
            small, added = _pushed(raw, tokens - low, normalizer, given, head.scale, head.softcap,
                                   grad_bias is not None)  # fmt: skip
            grad_hidden += small @ part
            weight_gradient(small, hidden, out=grad_weight[low:high])
            if grad_bias is not None:
                grad_bias[low:high] = added
        return grad_hidden.to(hidden.dtype), grad_weight, grad_bias, None, None, None
