"""The sample that scores best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from burnish.errors import EngineError
from burnish.evaluation.stats import best_of_k
from burnish.test_time.strategies.base import Strategy, known
from burnish.types import Completion, Score


class BestOfN(Strategy):
    """Take the sample that a scorer likes best."""

    scorer: Literal["likelihood", "total_likelihood"] = "likelihood"
    """`likelihood`: the model's own mean log-probability of a token, at no further cost. `total_likelihood`: the sum,
    which leans to short answers."""

    def pick(self, completions: Sequence[Completion], scores: Sequence[Score]) -> int:
        """The first sample with the highest score."""
        ratings = [self._rate(completion) for completion in completions]
        return ratings.index(max(ratings))

    def expected(self, completions: Sequence[Completion], scores: Sequence[Score], k: int, seed: int = 0) -> float:
        """Exact over all choices of `k` samples; samples with one score share."""
        ratings = [self._rate(completion) for completion in completions]
        return best_of_k(ratings, [known(score) for score in scores], k)

    def _rate(self, completion: Completion) -> float:
        if len(completion.logprobs) != len(completion.ids) or (completion.text and not completion.ids):
            raise EngineError(
                "best_of_n by likelihood needs the log-probabilities of the samples, and there are none",
                hint="use an engine that reports them, or the strategy `majority`",
            )
        if not completion.ids:
            return -math.inf  # nothing was written
        total = sum(completion.logprobs)
        return total if self.scorer == "total_likelihood" else total / len(completion.logprobs)
