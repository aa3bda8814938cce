"""What a strategy is: it picks one of several samples of an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from random import Random

from burnish.config import Config
from burnish.rng import seed_for
from burnish.types import Completion, Score

SUBSETS = 500
"""Choices of k samples that are averaged over; when there are no more than these, all of them are."""


class Strategy(Config):
    """Base of all strategies. A new one needs only `pick`."""

    def pick(self, completions: Sequence[Completion], scores: Sequence[Score]) -> int:
        """The index of the chosen sample.

        Of a score it may use only `answer`, what was read out of the text: `value` is the truth to be found.
        """
        raise NotImplementedError

    def expected(self, completions: Sequence[Completion], scores: Sequence[Score], k: int, seed: int = 0) -> float:
        """Mean value of what it picks among `k`, over choices of `k` of the samples: all, or SUBSETS seeded ones.

        Strategies with a formula replace this. All scores must have a value.
        """
        total, count = 0.0, 0
        for places in _subsets(len(scores), k, seed):
            picked = self.pick([completions[place] for place in places], [scores[place] for place in places])
            total += known(scores[places[picked]])
            count += 1
        return total / count


def _subsets(n: int, k: int, seed: int) -> Iterator[tuple[int, ...]]:
    if math.comb(n, k) <= SUBSETS:
        yield from combinations(range(n), k)
        return
    rng = Random(seed_for(seed, "subsets", n, k))
    for _ in range(SUBSETS):
        yield tuple(sorted(rng.sample(range(n), k)))


def known(score: Score) -> float:
    """The value of a score that has one."""
    assert score.value is not None
    return score.value
