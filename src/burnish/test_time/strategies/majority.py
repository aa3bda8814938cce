"""The answer that most samples agree on. Source: self-consistency, arXiv:2203.11171."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from burnish.evaluation.stats import majority_at_k
from burnish.test_time.strategies.base import Strategy, known
from burnish.types import Completion, Score


class Majority(Strategy):
    """Vote with the answers that were read out of the samples; a sample without an answer has no vote."""

    def pick(self, completions: Sequence[Completion], scores: Sequence[Score]) -> int:
        """The first sample with the most frequent answer; of answers that tie, the one that came first."""
        votes = Counter(score.answer for score in scores if score.answer is not None)
        if not votes:
            return 0
        winner = votes.most_common(1)[0][0]  # equal counts keep the order in which they were first met
        return next(index for index, score in enumerate(scores) if score.answer == winner)

    def expected(self, completions: Sequence[Completion], scores: Sequence[Score], k: int, seed: int = 0) -> float:
        """Exact over all choices and orders of `k` samples, in which answers that tie come first equally often."""
        return majority_at_k([score.answer for score in scores], [known(score) for score in scores], k)
