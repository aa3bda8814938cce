"""Reward models: a score for a whole answer from pairs, or for each of its steps from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Unpack

import torch

from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel
from burnish.models.scores import at_the_end, token_scores
from burnish.objectives.parts import LossOutput
from burnish.training.batch import parts_of
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, units_of
from burnish.training.state import TrainResult
from burnish.training.step import Micro, RunOptions, train

if TYPE_CHECKING:
    from burnish.objectives.reward import BradleyTerry, Steps


def train_reward(
    lm: LanguageModel, pairs: Sequence[RenderedPair], objective: BradleyTerry, optimization: Optimization,
    **run: Unpack[RunOptions],
) -> TrainResult:  # fmt: skip
    """Train a model that gives scores on pairs; the score is read at an answer's stop token. Mean over the pairs."""
    pairs = [replace(pair, chosen=at_the_end(pair.chosen), rejected=at_the_end(pair.rejected)) for pair in pairs]
    units, margins = units_of(pairs), torch.tensor([pair.margin for pair in pairs])

    def loss(numbers: list[int]) -> LossOutput:
        rows = [pairs[number].chosen for number in numbers] + [pairs[number].rejected for number in numbers]
        scores = token_scores(lm.model, lay_out(rows, lm.device, trees=lm.trees))
        chosen, rejected = scores.split(len(numbers))
        return objective.loss(chosen, rejected, margins[numbers].to(scores))

    def micros(numbers: list[int], budget: int) -> tuple[float, list[Micro]]:
        parts = parts_of(units, numbers, budget, trees=lm.trees)
        return float(len(numbers)), [(size, partial(loss, part)) for size, part in parts]

    return train(lm, units, micros, optimization, label="reward", **run)


@dataclass(frozen=True, slots=True)
class RenderedSteps:
    """A conversation with the ends of its answer's steps marked, and how right each step is, 0 to 1."""

    row: Rendered
    labels: tuple[float, ...]


def train_steps(
    lm: LanguageModel, rows: Sequence[RenderedSteps], objective: Steps, optimization: Optimization,
    **run: Unpack[RunOptions],
) -> TrainResult:  # fmt: skip
    """Train a model that gives scores on labelled steps. The loss of a step of the optimiser is the mean over all of
    its rows' steps."""
    units = [[one.row] for one in rows]

    def loss(chosen: list[RenderedSteps]) -> LossOutput:
        scores = token_scores(lm.model, lay_out([one.row for one in chosen], lm.device, trees=lm.trees))
        labels = torch.tensor([label for one in chosen for label in one.labels])
        return objective.loss(scores, labels.to(scores))

    def micros(numbers: list[int], budget: int) -> tuple[float, list[Micro]]:
        count = float(sum(len(rows[number].labels) for number in numbers))
        parts = parts_of(units, numbers, budget, trees=lm.trees)
        return count, [(size, partial(loss, [rows[number] for number in part])) for size, part in parts]

    return train(lm, units, micros, optimization, label="steps", **run)
