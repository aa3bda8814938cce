"""Log-probabilities of chosen tokens without keeping logits.

The head (a matrix of V x H) is applied only to the hidden states that predict a supervised token, in chunks. A chunk's
logits live until the next; the backward pass makes them again. Memory is chunk x V instead of B x T x V, and the work
at unsupervised positions is none. The products run in the model's dtype (bf16 has matrix instructions), the
log-sum-exp in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

from burnish.models.attention import trees
from burnish.models.layout import Batch

CHUNK = 1 << 24
"""Logits held at once: 16 Mi numbers, 64 MiB in fp32. Every chunk also adds to the gradient of the whole head, so small
ones cost more than they save."""
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
    if batch.segments is None:
        out = backbone(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    else:
        with trees(backbone):
            out = backbone(input_ids=batch.ids, position_ids=batch.positions, segments=batch.segments, use_cache=False)
    states: Tensor = out.last_hidden_state.flatten(0, 1)
    return states


def head_logprobs(hidden: Tensor, tokens: Tensor, head: Head) -> Tensor:
    """Log-probability of tokens (N,) under the head applied to hidden states (N, H); fp32 (N,)."""
    result: Tensor = _HeadLogprobs.apply(hidden, head.weight, head.bias, tokens, head)
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


class _HeadLogprobs(torch.autograd.Function):  # type: ignore[misc]
    """log softmax(head(h))[token], with the logits made twice and kept never."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, head: Head) -> Tensor:
        values, normalizers = [], []
        for part, chosen in _chunks(hidden, tokens, weight.shape[0]):
            logits = logits_of(part, head)
            normalizer = torch.logsumexp(logits, dim=-1)
            normalizers.append(normalizer)
            values.append(logits.gather(1, chosen[:, None])[:, 0] - normalizer)
        empty = hidden.new_zeros(0, dtype=torch.float32)
        normalizer = torch.cat(normalizers) if normalizers else empty
        ctx.save_for_backward(hidden, weight, tokens, normalizer, *([] if bias is None else [bias]))
        ctx.head = head
        return torch.cat(values) if values else empty

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, tokens, normalizer, *rest = ctx.saved_tensors
        head: Head = ctx.head
        grad_hidden = torch.empty_like(hidden)
        wants_weight = ctx.needs_input_grad[1]
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(rest[0], dtype=torch.float32) if rest else None
        at = 0
        for part, chosen in _chunks(hidden, tokens, weight.shape[0]):
            stop = at + len(part)
            logits = logits_of(part, head)
            slope = None if head.softcap is None else 1 - (logits / head.softcap) ** 2
            # d log p[token] / d logits = onehot(token) - softmax
            delta = logits.sub_(normalizer[at:stop, None]).exp_()
            delta.mul_(-head.scale * grads[0][at:stop, None])
            delta.scatter_add_(1, chosen[:, None], head.scale * grads[0][at:stop, None])
            if slope is not None:
                delta *= slope
            small = delta.to(weight.dtype)
            grad_hidden[at:stop] = (small @ weight).to(hidden.dtype)
            if grad_weight is not None:
                grad_weight += small.T @ part.to(weight.dtype)
            if grad_bias is not None:
                grad_bias += delta.sum(0)
            at = stop
        cast = None if grad_weight is None else grad_weight.to(weight.dtype)
        return grad_hidden, cast, None if grad_bias is None else grad_bias.to(rest[0].dtype), None, None


def _chunks(hidden: Tensor, tokens: Tensor, vocabulary: int) -> Any:
    rows = max(1, CHUNK // vocabulary)
    return zip(hidden.split(rows), tokens.split(rows), strict=True) if len(hidden) else ()
