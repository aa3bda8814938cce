"""Log-probabilities of continuations, many prompts in one forward pass.

Prompts that begin alike (a subject's solved examples, a system message) and the options behind one prompt are token
trees: what is shared is computed once, nothing is padded, and the head sees only the places that predict a token of an
option. An option's last token predicts nothing and is not fed, so answers of one token cost nothing beside the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.engines.base import Scored
from burnish.engines.encoding import Asked
from burnish.models.layout import common, plant
from burnish.models.logprobs import Head, chunk, head_of, logits_of, of_whole, tree_states

PASS = 4096
"""Tokens of a forward pass on a CPU: more of them leave its caches. Measured on two cores with 135 M parameters: 14.1
questions of MMLU a second, against 13.8 with 8,192 and 12.6 with 16,384."""
REPEATED = 4
"""A pass takes at least so many times its first prompt, because what prompts share is computed again in each pass."""


def packs(asked: Sequence[Asked], budget: int, least: int = PASS) -> Iterator[list[int]]:
    """Numbers of prompts that share a forward pass, alike in their beginning.

    A pass has at most `least` tokens once planted, or `REPEATED` times its first prompt, and never more than `budget`.
    A prompt that is longer than that has a pass of its own.
    """
    order = sorted(range(len(asked)), key=lambda number: asked[number][0])
    pack: list[int] = []
    size = 0
    for number in order:
        ids, tails = asked[number]
        extra = sum(len(tail) - 1 for tail in tails)
        new = len(ids) + extra
        shared = common(asked[pack[-1]][0], ids) if pack else 0
        room = min(budget, max(least, REPEATED * len(asked[pack[0]][0]))) if pack else 0
        if pack and size + new - shared > room:
            yield pack
            pack, size, shared = [], 0, 0
        pack.append(number)
        size += new - shared
    if pack:
        yield pack


@of_whole
def _chosen(model: Any, rows: Sequence[tuple[int, ...]], asked: Sequence[tuple[int, int, Sequence[int]]]) -> Tensor:
    """Log-probability and whether it is the likeliest (2, M) of each token of the continuations.

    Args:
        rows: what is fed. asked: (row, number of tokens before it, continuation), the last token of which is not fed.
    """
    tree = plant(rows)
    places = [tree.places(row) for row in range(len(rows))]
    sources = np.concatenate([places[row][start - 1 : start - 1 + len(tail)] for row, start, tail in asked])
    unique, which = np.unique(sources, return_inverse=True)
    states = tree_states(model, tree)
    device = states.device
    targets = torch.tensor([token for *_, tail in asked for token in tail], device=device)
    states = states.index_select(0, torch.from_numpy(unique).to(device))
    return chosen_logprobs(states, torch.from_numpy(which).to(device), targets, head_of(model))


def chosen_logprobs(hidden: Tensor, which: Tensor, tokens: Tensor, head: Head) -> Tensor:
    """Log-probabilities in nats of tokens, and 1 where no token is likelier: fp32 (2, M).

    Args:
        hidden: (U, H) states that predict. which: (M,) the state that predicts each token. tokens: (M,).
    """
    found = torch.empty(2, len(tokens), device=hidden.device)
    step = max(1, chunk(hidden) // head.weight.shape[0])
    for low in range(0, len(hidden), step):
        logits = logits_of(hidden[low : low + step], head)
        inside = ((which >= low) & (which < low + step)).nonzero()[:, 0]
        rows, chosen = which[inside] - low, tokens[inside]
        found[0, inside] = logits[rows, chosen] - torch.logsumexp(logits, dim=-1)[rows]
        found[1, inside] = (logits.argmax(-1)[rows] == chosen).float()
    return found


def score_pack(model: Any, asked: Sequence[Asked]) -> list[list[Scored]]:
    """The options of some prompts, in one forward pass."""
    rows: dict[tuple[int, ...], int] = {}
    flat = [(rows.setdefault((*ids, *tail[:-1]), len(rows)), len(ids), tail) for ids, tails in asked for tail in tails]
    found = _chosen(model, list(rows), flat)
    return gathered(found, [tails for _, tails in asked])


def gathered(found: Tensor, options: Sequence[Sequence[Sequence[int]]]) -> list[list[Scored]]:
    """Tokens' log-probabilities (2, M), as `chosen_logprobs` gives them, summed for each option of each prompt."""
    values, likeliest = found.double().cpu().numpy()
    sizes = [len(tail) for tails in options for tail in tails]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
    sums, greedy = np.add.reduceat(values, starts), np.minimum.reduceat(likeliest, starts)
    scored = iter(
        Scored(float(total), size, bool(likely)) for total, size, likely in zip(sums, sizes, greedy, strict=True)
    )
    return [[next(scored) for _ in tails] for tails in options]
