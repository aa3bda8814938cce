"""Which two models meet next: a pair without a vote first, then the pair whose vote teaches the ranking most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from burnish.evaluation.ranking import Battles, most_telling, rank
from burnish.evaluation.votes import VoteStore
from burnish.rng import seed_for

Counts = NDArray[np.int64]
Matrix = NDArray[np.float64]


class Tally:
    """The votes of a store, counted; new votes are added to the old counts, so a million old ones cost nothing."""

    def __init__(self, store: VoteStore) -> None:
        self._store, self._last = store, 0
        self._counts: dict[tuple[str, str, float], int] = {}

    def update(self) -> None:
        """Count the votes that came since."""
        rows, self._last = self._store.tally(after=self._last)
        for first, second, outcome, count in rows:
            key = (first, second, outcome)
            self._counts[key] = self._counts.get(key, 0) + count

    def votes(self, models: Sequence[str]) -> Counts:
        """(M, M) votes on each pair of `models`, symmetric."""
        number = {name: k for k, name in enumerate(models)}
        found = np.zeros((len(models), len(models)), dtype=np.int64)
        for (first, second, _), count in self._counts.items():
            if first in number and second in number:
                found[number[first], number[second]] += count
                found[number[second], number[first]] += count
        return found

    def gains(self, models: Sequence[str]) -> Matrix:
        """(M, M) what one more vote on each pair of `models` would teach, in nats (`most_telling`).

        Votes count one by one here, not voter by voter: of one voter alone, the spread between voters says nothing.
        """
        if not self._counts:
            return 1.0 - np.eye(len(models))
        names = sorted({name for first, second, _ in self._counts for name in (first, second)})
        number = {name: k for k, name in enumerate(names)}
        keys, counts = list(self._counts), list(self._counts.values())
        first = np.repeat([number[key[0]] for key in keys], counts)
        second = np.repeat([number[key[1]] for key in keys], counts)
        outcome = np.repeat([key[2] for key in keys], counts)
        return most_telling(rank(Battles(tuple(names), first, second, outcome), rounds=1), models)


def choose_pair(votes: Counts, gains: Matrix, open_: Counts, allowed: NDArray[np.bool_],
                seed: int) -> tuple[int, int] | None:  # fmt: skip
    """The pair (i, j), i < j, to show next; None when none is allowed. All four are (M, M) and symmetric.

    `open_` counts battles that others are looking at now. A pair without a vote comes first: one that joins two groups
    of models which no votes connect, if there is one, then one of models with few votes. Then the largest gain counts,
    as it will be once the open battles are voted on: k more votes on a pair of gain g = log(1 + x) / 2 leave
    log(1 + x / (1 + k x)) / 2, as they divide the variance of its difference by 1 + k x. Ties are broken by the seed.
    """
    candidates = np.triu(allowed, 1)
    if not candidates.any():
        return None
    seen = votes + open_
    fresh = candidates & (seen == 0)
    if fresh.any():
        candidates = fresh
        _, group = connected_components(seen > 0, directed=False)
        often = seen.sum(1)
        joins = group[:, None] != group[None, :]
        score = joins * (2.0 * seen.sum() + 1) - (often[:, None] + often[None, :])
    else:
        x = np.expm1(2 * gains)
        score = 0.5 * np.log1p(x / (1 + open_ * x))
    best = candidates & (score >= score[candidates].max() - 1e-12)
    pairs = np.argwhere(best)
    first, second = pairs[seed_for(seed, "pair", int(votes.sum()), int(open_.sum())) % len(pairs)]
    return int(first), int(second)
