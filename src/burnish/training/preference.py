"""Preference alignment from pairs, against a reference whose log-probabilities are computed once and kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor

from burnish.models.chat import Rendered
from burnish.models.load import LanguageModel
from burnish.objectives.parts import LossOutput, PairLogprobs
from burnish.training.answers import (
    Reference,
    answer_logprobs,
    learned_tokens,
    reference_logprobs,
    refuse_other_start,
)
from burnish.training.batch import parts_of
from burnish.training.falling import Falling
from burnish.training.optim import Optimization
from burnish.training.state import TrainResult
from burnish.training.step import Micro, RunOptions, train

if TYPE_CHECKING:
    from burnish.objectives.parts import PairObjective


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Two answers behind the same prompt, as tokens."""

    chosen: Rendered
    rejected: Rendered
    id: str = ""
    margin: float = 0.0
    """Score of chosen minus score of rejected, in the scorer's unit; 0 where there is none."""


def sides_of(pairs: Sequence[RenderedPair]) -> dict[str, list[Rendered]]:
    """Chosen and rejected answers, side by side."""
    return {"chosen": [pair.chosen for pair in pairs], "rejected": [pair.rejected for pair in pairs]}


def units_of(pairs: Sequence[RenderedPair]) -> list[list[Rendered]]:
    """The rows that stay together: both answers of a pair."""
    return [[pair.chosen, pair.rejected] for pair in pairs]


def pair_reference(lm: LanguageModel, pairs: Sequence[RenderedPair], folder: Path, optimization: Optimization, seed: int
                   ) -> Reference:  # fmt: skip
    """The starting model's log-probabilities of both answers of every pair that `train_preference` draws, computed once
    and kept in `folder`, where other runs find them."""
    return reference_logprobs(lm, sides_of(pairs), folder, optimization, seed)


def discounted(pairs: Sequence[RenderedPair], tail: float) -> Sequence[RenderedPair]:
    """The pairs with weight `tail` on the tokens by which the longer answer exceeds the shorter (arXiv:2409.06411)."""
    if tail == 1:
        return pairs

    def cut(row: Rendered, kept: int) -> Rendered:
        places = [place for place, weight in enumerate(row.weights) if weight][kept:]
        beyond = set(places)
        weights = tuple(weight * tail if place in beyond else weight for place, weight in enumerate(row.weights))
        return replace(row, weights=weights)

    found = []
    for pair in pairs:
        kept = min(sum(map(bool, row.weights)) for row in (pair.chosen, pair.rejected))
        found.append(replace(pair, chosen=cut(pair.chosen, kept), rejected=cut(pair.rejected, kept)))
    return found


def train_preference(
    lm: LanguageModel, pairs: Sequence[RenderedPair], reference: Reference | None, objective: PairObjective,
    optimization: Optimization, **run: Unpack[RunOptions],
) -> TrainResult:  # fmt: skip
    """Train on pairs. The loss of a step is the mean over its pairs.

    Dropout is off, as it is for the reference: noise in one of the two would be noise in every margin.
    Raises TrainingError for an answer longer than the context, and when the margins before the first step are not zero:
    then the reference is not the model that training starts from.
    """
    pairs = discounted(pairs, objective.tail)
    units = units_of(pairs)
    known = _known(pairs, reference)
    if reference is not None:
        refuse_other_start(lm, sides_of(pairs), reference, optimization, run["folder"])

    def loss(numbers: list[int]) -> LossOutput:
        rows = [pairs[number].chosen for number in numbers] + [pairs[number].rejected for number in numbers]
        logprobs = answer_logprobs(lm, rows)
        policy = PairLogprobs(*logprobs.split(len(numbers)),
                              *learned_tokens(rows).to(logprobs).split(len(numbers)))  # fmt: skip
        base = (known.chosen, known.rejected, known.chosen_tokens, known.rejected_tokens)
        found = objective.loss(policy, PairLogprobs(*(values[numbers].to(logprobs) for values in base)))
        each = (policy.chosen / policy.chosen_tokens).detach()
        gain = float((policy.chosen.detach() - known.chosen[numbers].to(logprobs)).sum())
        return LossOutput(found.total, {"chosen_gain": gain, **found.metrics, "chosen_logprob": float(each.sum())})

    def micros(numbers: list[int], budget: int) -> tuple[float, list[Micro]]:
        parts = parts_of(units, numbers, sys.maxsize if objective.whole_step else budget, trees=lm.trees)
        return float(len(numbers)), [(size, partial(loss, part)) for size, part in parts]

    # Without a reference only the first steps can be compared with, whose answers are others and of other lengths.
    falling = (Falling("preference", "chosen answers", "nats", 1.0, 0.0) if reference
               else Falling("preference", "chosen answers", "nats a token", 0.1, None))  # fmt: skip

    def after(step: int, row: dict[str, float]) -> None:
        falling.see(step, row["chosen_gain" if reference else "chosen_logprob"])

    return train(lm, units, micros, optimization, label="preference", check=after, dropout=False, **run)


def _known(pairs: Sequence[RenderedPair], reference: Reference | None) -> PairLogprobs:
    """What the reference gives each pair; zeros without one."""
    sides = sides_of(pairs)
    nothing = torch.zeros(len(pairs))
    sums: dict[str, Tensor] = {side: reference.sums(side, rows) if reference else nothing
                               for side, rows in sides.items()}  # fmt: skip
    return PairLogprobs(sums["chosen"], sums["rejected"], *map(learned_tokens, sides.values()))
