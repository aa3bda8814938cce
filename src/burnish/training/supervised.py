"""Supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Unpack

from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import token_logprobs
from burnish.objectives.parts import LossOutput
from burnish.training.batch import parts_of
from burnish.training.optim import Optimization
from burnish.training.state import TrainResult
from burnish.training.step import Micro, Micros, RunOptions, train

if TYPE_CHECKING:
    from burnish.objectives.sft import SFT


def train_supervised(
    lm: LanguageModel, rows: Sequence[Rendered], objective: SFT, optimization: Optimization, **run: Unpack[RunOptions],
) -> TrainResult:  # fmt: skip
    """Train on conversations.

    The loss of a step is the weighted mean over all of its learned tokens, however they are spread over rows and
    micro-batches.
    Raises TrainingError for a row that is longer than the context.
    """

    def loss(chosen: list[Rendered]) -> LossOutput:
        batch = lay_out(chosen, lm.device, trees=lm.trees)
        return objective.loss(token_logprobs(lm.model, batch), batch.weights)

    return train(lm, [[row] for row in rows], row_micros(lm, rows, loss), optimization, label="supervised", **run)


def row_micros(lm: LanguageModel, rows: Sequence[Rendered], loss: Callable[[list[Rendered]], LossOutput]) -> Micros:
    """Steps over rows whose unit is the learned token: the sum of their weights, and the loss of each micro-batch."""

    units = [[row] for row in rows]

    def micros(numbers: list[int], budget: int) -> tuple[float, list[Micro]]:
        count = sum(sum(rows[number].weights) for number in numbers)
        parts = parts_of(units, numbers, budget, trees=lm.trees)
        return count, [(size, partial(loss, [rows[number] for number in part])) for size, part in parts]

    return micros
