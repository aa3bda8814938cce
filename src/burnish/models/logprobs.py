"""Log-probabilities of chosen tokens without keeping logits.

The head (a matrix of V x H) is applied only to the hidden states that predict a supervised token, a part of the
vocabulary at a time. A part's logits live until the next; of each row its maximum and its sum go on. Memory is rows x
part instead of B x T x V, the work at unsupervised positions is none, and every part of the head's gradient is written
once. The products run in the model's dtype (bf16 has matrix instructions), the log-sum-exp in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

from burnish.models.attention import trees
from burnish.models.layout import Batch, Tree

CHUNK = 1 << 23
"""Logits held at once: 8 Mi numbers, 32 MiB in fp32."""
NARROWEST = 256
"""Fewest tokens of the vocabulary in a part: narrower products waste the matrix units."""
Losses = Callable[[Tensor, Tensor, Tensor], Tensor]
P = ParamSpec("P")


@dataclass(frozen=True)
class Head:
    """How hidden states become logits: matrix, bias, and the scalings that some families put behind it."""

    weight: Tensor
    bias: Tensor | None
    scale: float
    """Logits are multiplied by it (Cohere's logit_scale, 1 / Granite's logits_scaling)."""
    softcap: float | None
    """cap * tanh(logits / cap), Gemma 2's final soft-capping."""


def head_of(model: Any) -> Head:
    """The head of a causal language model, adapters around it included in what transformers exposes."""
    layer = model.get_output_embeddings()
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return Head(layer.weight, getattr(layer, "bias", None), scale, getattr(config, "final_logit_softcapping", None))


def backbone_of(model: Any) -> Any:
    """The part of a causal language model that gives hidden states, with an adapter's layers in place."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return (
        inner.get_decoder() if hasattr(inner, "get_decoder") and inner.get_decoder() is not None else inner.base_model
    )


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
    with trees(backbone):
        out = backbone(input_ids=ids, position_ids=positions, segments=segments, use_cache=False)
    states: Tensor = out.last_hidden_state.flatten(0, 1)
    return states


def head_logprobs(hidden: Tensor, tokens: Tensor, head: Head) -> Tensor:
    """Log-probability of tokens (N,) under the head applied to hidden states (N, H); fp32 (N,)."""
    result: Tensor = _HeadLogprobs.apply(hidden, head.weight, head.bias, tokens, head, torch.is_grad_enabled())
    return result


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

    rows = max(1, CHUNK // size)
    parts = [
        checkpoint(part, states, head.weight, others, chosen, use_reentrant=False)
        for states, others, chosen in zip(hidden.split(rows), other.split(rows), tokens.split(rows), strict=True)
    ]
    return torch.cat(parts)


def logits_of(hidden: Tensor, head: Head) -> Tensor:
    """Logits in fp32 (N, V) of hidden states (N, H)."""
    return _finish(torch.nn.functional.linear(hidden.to(head.weight.dtype), head.weight, head.bias), head)


def _finish(raw: Tensor, head: Head) -> Tensor:
    logits = raw.float()
    if head.scale != 1.0:
        logits = logits * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def _slope(logits: Tensor, head: Head) -> Tensor | float:
    """d logits / d (what the matrix gave)."""
    return head.scale if head.softcap is None else head.scale * (1 - (logits / head.softcap) ** 2)


def _parts(head: Head, rows: int) -> Iterator[tuple[int, int, Head]]:
    """The head in parts: first token, end, and the head that gives their logits."""
    vocabulary = head.weight.shape[0]
    size = max(NARROWEST, CHUNK // max(1, rows))
    for low in range(0, vocabulary, size):
        high = min(low + size, vocabulary)
        bias = None if head.bias is None else head.bias[low:high]
        yield low, high, replace(head, weight=head.weight[low:high], bias=bias)


class _HeadLogprobs(torch.autograd.Function):  # type: ignore[misc]
    """log softmax(head(h))[token], the vocabulary in parts, no part's logits kept.

    d value / d h = slope[token] W[token] - sum over v of p(v) slope(v) W(v). Where the head is frozen (an adapter),
    that is known with the value itself: it is attention with the head's rows as keys and as values, rescaled as the
    maximum rises (as in FlashAttention, arXiv:2205.14135), and the logits are made once. Where the head learns, its
    gradient waits for the gradient of the values, and the logits are made again.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, head: Head, learns: bool
                ) -> Tensor:  # fmt: skip
        states, rows = hidden.to(weight.dtype), torch.arange(len(tokens), device=tokens.device)
        most = torch.full(tokens.shape, -torch.inf, device=hidden.device)
        total, chosen = torch.zeros_like(most), torch.zeros_like(most)
        ctx.once = learns and not any(ctx.needs_input_grad[1:3])
        pull = torch.zeros(hidden.shape, device=hidden.device) if ctx.once else None
        for low, high, part in _parts(head, len(tokens)):
            logits = logits_of(states, part)
            inside = (tokens >= low) & (tokens < high)
            chosen[inside] = logits[rows[inside], tokens[inside] - low]
            before, most = most, torch.maximum(most, logits.amax(-1))
            shrink = (before - most).exp_()
            slope = _slope(logits, head) if ctx.once else 1.0
            parts = logits.sub_(most[:, None]).exp_()
            total.mul_(shrink).add_(parts.sum(-1))
            if pull is not None:
                pull.mul_(shrink[:, None]).add_((parts * slope).to(weight.dtype) @ part.weight)
        if pull is not None:
            own = weight[tokens].float() * torch.as_tensor(_slope(chosen, head), device=most.device).view(-1, 1)
            ctx.save_for_backward((own - pull / total[:, None]).to(hidden.dtype))
        else:
            ctx.save_for_backward(hidden, weight, tokens, most + total.log(), *([] if bias is None else [bias]))
        ctx.head = head
        return chosen - most - total.log()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = grads[0][:, None]
        if ctx.once:
            (slopes,) = ctx.saved_tensors
            return slopes * given.to(slopes.dtype), None, None, None, None, None
        hidden, weight, tokens, normalizer, *rest = ctx.saved_tensors
        states, rows = hidden.to(weight.dtype), torch.arange(len(tokens), device=tokens.device)
        grad_hidden = torch.zeros(hidden.shape, device=hidden.device)
        grad_weight = torch.empty_like(weight)
        grad_bias = torch.empty_like(rest[0]) if rest else None
        for low, high, part in _parts(replace(ctx.head, weight=weight, bias=rest[0] if rest else None), len(tokens)):
            logits = logits_of(states, part)
            slope = _slope(logits, ctx.head)
            delta = logits.sub_(normalizer[:, None]).exp_().neg_()  # onehot(token) - softmax
            inside = (tokens >= low) & (tokens < high)
            delta[rows[inside], tokens[inside] - low] += 1.0
            delta.mul_(given * slope)
            small = delta.to(weight.dtype)
            grad_hidden += small @ part.weight
            torch.mm(small.T, states, out=grad_weight[low:high])
            if grad_bias is not None:
                grad_bias[low:high] = delta.sum(0)
        return grad_hidden.to(hidden.dtype), grad_weight, grad_bias, None, None, None
