"""Accuracy against tokens: what a strategy makes of 1, 2, 4, ... samples of each answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from burnish.errors import EvaluationError
from burnish.evaluation.stats import Point, cluster_names, macro, mean_interval, paired, paired_macro, pass_at_k
from burnish.log import note
from burnish.types import Completion, Score

RIGHT = 1.0
"""The value of an answer that pass@n counts."""


class Picks(Protocol):
    """A strategy; see `strategies.base`."""

    def expected(self, completions: Sequence[Completion], scores: Sequence[Score], k: int, seed: int = 0) -> float: ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """The samples of one item and their grades."""

    id: str
    completions: Sequence[Completion]
    scores: Sequence[Score]
    task: str = ""
    cluster: str = ""
    """What the item has in common with others; empty when it stands alone."""


def curve(samples: Sequence[Sampled], ns: Sequence[int], strategy: Picks, *, seed: int = 0) -> list[Point]:
    """A point for each number of samples in `ns`, in rising order.

    Each item counts with the mean over all choices of n of its samples, so that a curve does not hang on which came
    first; each task counts alike, as in an evaluation. An item with an ungraded sample is left out of every point, and
    counted. Raises EvaluationError when no item is left, when items have different numbers of samples, or when `ns`
    asks for more than there are.
    """
    graded = [item for item in samples if all(score.value is not None for score in item.scores)]
    drawn = {len(item.scores) for item in samples}
    if not graded or len(drawn) != 1:
        what = "no item has grades for all its samples" if not graded else "items have different numbers of samples"
        raise EvaluationError(what, hint="draw the same number of samples for each item, and check its grader")
    if not ns or min(ns) < 1 or max(ns) > min(drawn):
        raise EvaluationError(f"n must lie between 1 and the {min(drawn)} samples drawn, got {list(ns)}")
    unscored = len(samples) - len(graded)
    if unscored:
        note(f"{unscored} of {len(samples)} items are left out: a sample could not be graded")
    single = [_mean_value(item) for item in graded]
    return [_point(graded, n, strategy, single, seed, unscored) for n in sorted(set(ns))]


def _point(
    items: Sequence[Sampled], n: int, strategy: Picks, single: Sequence[float], seed: int, unscored: int
) -> Point:
    picked = [strategy.expected(item.completions, item.scores, n, seed) for item in items]
    found = [pass_at_k(len(item.scores), _right(item), n) for item in items]
    tokens = [_prompt_tokens(item) + n * _answer_tokens(item) for item in items]
    accuracy, ceiling, gains = [], [], {}
    for task in dict.fromkeys(item.task for item in items):
        places = [place for place, item in enumerate(items) if item.task == task]
        names = cluster_names([items[place].id for place in places], [items[place].cluster for place in places])
        before, after, best = ([values[place] for place in places] for values in (single, picked, found))
        accuracy.append(mean_interval(after, names, bounds=(0.0, 1.0)))
        ceiling.append(mean_interval(best, names, bounds=(0.0, 1.0)))
        change = [b - a for a, b in zip(before, after, strict=True)]
        gains[task] = (paired(before, after, names, seed), change, names)
    return Point(n, sum(tokens) / len(tokens), macro(accuracy), macro(ceiling), paired_macro(gains, seed), unscored)


def _mean_value(item: Sampled) -> float:
    return sum(score.value for score in item.scores if score.value is not None) / len(item.scores)


def _right(item: Sampled) -> int:
    return sum(score.value is not None and score.value >= RIGHT for score in item.scores)


def _prompt_tokens(item: Sampled) -> int:
    """The prompt's tokens, once: its samples share them."""
    return max(completion.prompt_tokens for completion in item.completions)


def _answer_tokens(item: Sampled) -> float:
    """Mean length of an answer, so that n of them cost n times this on average over all choices."""
    return sum(len(completion.ids) for completion in item.completions) / len(item.completions)
