"""Several models on the same items: who gained, what was lost on the way, and whether there are enough items to say.

Every model is compared with the first one item by item. The p-values of a family of comparisons are adjusted together
(Holm): the overall ones of all models are one family, those of all models on single tasks another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.errors import EvaluationError
from burnish.evaluation.runner import OVERALL, Outcome, Report, compare, report
from burnish.evaluation.stats import LEVEL, PairedDifference, holm, items_needed

Finding = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, slots=True)
class Gain:
    """A model against the first one on a task."""

    task: str
    difference: PairedDifference
    """With the p-value of this comparison alone."""
    adjusted: float
    """Its p-value among all comparisons of its family."""
    needed: int | None
    """Items that would resolve a true difference of one point at 80 % power; None when that cannot be told."""

    @property
    def finding(self) -> Finding:
        """Better or worse only when the interval leaves out zero and the adjusted test agrees."""
        if self.adjusted > 1 - LEVEL:
            return "unclear"
        return "better" if self.difference.low > 0 else "worse" if self.difference.high < 0 else "unclear"


@dataclass(frozen=True, slots=True)
class Flip:
    """An item that two models answer differently well."""

    id: str
    task: str
    before: Outcome
    after: Outcome


@dataclass(frozen=True, slots=True)
class Compared:
    """One model beside the first."""

    model: str
    reports: Sequence[Report]
    """A row for each task, and `overall`."""
    gains: Sequence[Gain]
    """The same rows; empty for the first model."""
    flips: Sequence[Flip]
    """Items whose grade changed, the lost ones first."""

    def gain(self, task: str) -> Gain:
        return next(one for one in self.gains if one.task == task)

    @property
    def regressions(self) -> list[Gain]:
        """Tasks on which it is surely worse: what its gain elsewhere has cost (the alignment tax)."""
        return [one for one in self.gains if one.task != OVERALL and one.finding == "worse"]


def compare_models(answers: Mapping[str, Sequence[Outcome]]) -> list[Compared]:
    """Models by name, the first one the baseline, each with its answers to the same items.

    Raises EvaluationError for fewer than two models, or for models that answered different items.
    """
    if len(answers) < 2:
        raise EvaluationError("there is nothing to compare with", hint="name two models or more")
    (_, baseline), *others = answers.items()
    differences = {}
    for model, outcomes in others:
        _same_items(model, outcomes, baseline)
        differences[model] = compare(baseline, outcomes)
    cells = [(model, task) for model, tasks in differences.items() for task in tasks]
    adjusted: dict[tuple[str, str], float] = {}
    for family in (True, False):
        members = [cell for cell in cells if (cell[1] == OVERALL) is family]
        adjusted |= zip(members, holm([differences[model][task].p_value for model, task in members]), strict=True)
    return [
        Compared(model, report(outcomes), [
            Gain(task, found, adjusted[model, task], items_needed(found))
            for task, found in differences.get(model, {}).items()
        ], _flips(baseline, outcomes) if model in differences else [])
        for model, outcomes in answers.items()
    ]  # fmt: skip


def _same_items(model: str, outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> None:
    mine, theirs = {one.id for one in outcomes}, {one.id for one in baseline}
    if mine != theirs:
        odd = sorted(mine ^ theirs)
        raise EvaluationError(f"{model} answered other items than the first model: {len(odd)} are in one list only,"
                              f" such as {odd[0]}", hint="score all of them on one suite")  # fmt: skip


def _flips(baseline: Sequence[Outcome], outcomes: Sequence[Outcome]) -> list[Flip]:
    before = {one.id: one for one in baseline}
    found = [Flip(one.id, one.task, before[one.id], one) for one in outcomes]
    changed = [(change, flip) for flip in found if (change := _change(flip))]
    return [flip for _, flip in sorted(changed, key=lambda pair: pair[0])]


def _change(flip: Flip) -> float:
    first, second = flip.before.score.value, flip.after.score.value
    return 0.0 if first is None or second is None else second - first
