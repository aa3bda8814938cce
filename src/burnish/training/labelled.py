"""Alignment from single answers that were found good or bad (KTO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch

from burnish.models.chat import Rendered
from burnish.models.load import LanguageModel
from burnish.objectives.parts import LossOutput
from burnish.training.answers import Reference, Sides, answer_logprobs, reference_logprobs, refuse_other_start
from burnish.training.batch import parts_of
from burnish.training.falling import Falling
from burnish.training.optim import Optimization
from burnish.training.state import TrainResult
from burnish.training.step import Micro, RunOptions, train

if TYPE_CHECKING:
    from burnish.objectives.kto import KTO


TRIES = 64
"""Rows that are tried for a foreign answer before a row stands for itself."""


@dataclass(frozen=True, slots=True)
class RenderedAnswer:
    """A prompt with its answer, as tokens."""

    answer: Rendered
    good: bool
    id: str = ""


def with_foreign_answers(rows: Sequence[Rendered], context: int) -> list[Rendered]:
    """Each row's prompt with an answer to another prompt: of the row half of them away, or of the first behind it that
    has another prompt and fits the context."""
    half = len(rows) // 2

    def foreign(number: int) -> Rendered:
        start = rows[number].turns[-1].start
        prompt = rows[number].ids[:start]
        for other in (rows[(number + half + step) % len(rows)] for step in range(min(TRIES, len(rows)))):
            begin = other.turns[-1].start
            ids = prompt + other.ids[begin:]
            if other.ids[:begin] != prompt and len(ids) <= context:
                return Rendered(ids, (0.0,) * start + other.weights[begin:], ())
        return rows[number]

    return [foreign(number) for number in range(len(rows))]


def _sides(rows: Sequence[RenderedAnswer], objective: KTO, context: int) -> Sides:
    own = [row.answer for row in rows]
    return {"answer": own, "foreign": with_foreign_answers(own, context)} if objective.needs_kl else {"answer": own}


def labelled_reference(lm: LanguageModel, rows: Sequence[RenderedAnswer], objective: KTO, folder: Path,
                       optimization: Optimization, seed: int) -> Reference:  # fmt: skip
    """The starting model's log-probabilities of all that `train_labelled` looks at, computed once and kept in `folder`,
    where other runs find them."""
    return reference_logprobs(lm, _sides(rows, objective, lm.longest), folder, optimization, seed)


def train_labelled(
    lm: LanguageModel, rows: Sequence[RenderedAnswer], reference: Reference, objective: KTO,
    optimization: Optimization, **run: Unpack[RunOptions],
) -> TrainResult:  # fmt: skip
    """Train on labelled answers. The loss of a step is the mean over its answers.

    How far the policy has moved is estimated once a step, over all of the step's prompts with foreign answers, before
    the first of its micro-batches. Dropout is off, as it is for the reference.
    Raises TrainingError for a row longer than the context, and when the policy has moved before the first step.
    """
    sides = _sides(rows, objective, lm.longest)
    refuse_other_start(lm, sides, reference, optimization, run["folder"])
    known = {side: reference.sums(side, side_rows) for side, side_rows in sides.items()}
    answers = [[row.answer] for row in rows]

    def ratios(side: str, numbers: list[int]) -> torch.Tensor:
        found = answer_logprobs(lm, [sides[side][number] for number in numbers])
        return found - known[side][numbers].to(found)

    def micros(numbers: list[int], budget: int) -> tuple[float, list[Micro]]:
        parts = parts_of(answers, numbers, budget, trees=lm.trees)
        good = sum(rows[number].good for number in numbers)
        of = {"good_gain": good, "bad_gain": len(numbers) - good}  # what their means are over
        moved: list[float] = []

        def loss(part: list[int]) -> LossOutput:
            if not moved:  # here and not before, so that running out of memory is seen where it is mended
                moved.append(_moved(ratios, objective, [part for _, part in parts]))
            good = torch.tensor([rows[number].good for number in part], device=lm.device)
            found = objective.loss(ratios("answer", part), good, moved[0])
            metrics = {name: value * len(numbers) / max(1, of[name]) if name in of else value
                       for name, value in found.metrics.items()}  # fmt: skip
            return LossOutput(found.total, {**metrics, "moved": moved[0] * len(part)})

        return float(len(numbers)), [(size, partial(loss, part)) for size, part in parts]

    falling = Falling("labelled", "good answers", "nats", 1.0, 0.0)

    def check(step: int, row: dict[str, float]) -> None:
        if row.get("good_share"):
            falling.see(step, row["good_gain"])

    both = list(zip(*sides.values(), strict=True))
    return train(lm, both, micros, optimization, label="labelled", check=check, dropout=False, **run)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _moved(ratios: Callable[[str, list[int]], torch.Tensor], objective: KTO, parts: Sequence[list[int]]) -> float:
    """Mean log-ratio of foreign answers, not below zero (arXiv:2402.01306, estimate of the KL divergence)."""
    if not objective.needs_kl:
        return 0.0
    found = torch.cat([ratios("foreign", part) for part in parts])
    return max(0.0, float(found.mean()))
