"""Strategies pick as they say, look at no grade, and their formulas equal averages over all choices."""

from __future__ import annotations

from itertools import permutations
from random import Random
from statistics import mean

import pytest

from burnish.errors import EngineError
from burnish.test_time import STRATEGIES
from burnish.test_time.strategies.base import Strategy
from burnish.test_time.strategies.best_of_n import BestOfN
from burnish.test_time.strategies.majority import Majority
from burnish.types import Completion, Score


def drawn(seed: int, n: int) -> tuple[list[Completion], list[Score]]:
    rng = Random(seed)
    completions, scores = [], []
    for _ in range(n):
        length = rng.randint(1, 4)
        completions.append(
            Completion("t", tuple(range(length)), tuple(rng.choice((-1.0, -0.5)) for _ in range(length)))
        )
        scores.append(Score(rng.choice((0.0, 1.0)), rng.choice(("1", "2", "3", None))))
    return completions, scores


def said(*answers: str | None) -> tuple[list[Completion], list[Score]]:
    return [Completion("t", (1,), (-1.0,)) for _ in answers], [Score(0.0, answer) for answer in answers]


def test_majority_picks() -> None:
    assert Majority().pick(*said("1", "2", "2")) == 1
    assert Majority().pick(*said("3", "1", "1", "3")) == 0  # a tie goes to the answer that came first
    assert Majority().pick(*said(None, None, "4")) == 2
    assert Majority().pick(*said(None, None)) == 0


def test_best_of_n_picks_by_mean_or_by_sum() -> None:
    # means -0.6 and -0.5, sums -0.6 and -2.0
    completions = [Completion("short", (1,), (-0.6,)), Completion("long", (1, 2, 3, 4), (-0.5,) * 4)]
    scores = [Score(0.0), Score(0.0)]
    assert BestOfN().pick(completions, scores) == 1
    assert BestOfN(scorer="total_likelihood").pick(completions, scores) == 0
    assert BestOfN().pick([Completion("", (), ()), completions[0]], scores) == 1
    with pytest.raises(EngineError, match="log-probabilities"):
        BestOfN().pick([Completion("text")], scores[:1])


@pytest.mark.parametrize("strategy", [Majority(), BestOfN(), BestOfN(scorer="total_likelihood")])
def test_formula_equals_the_average_over_all_choices_and_orders(strategy: Strategy) -> None:
    for seed in range(12):
        completions, scores = drawn(seed, 5)
        for k in (1, 2, 3, 5):
            picked = []
            for places in permutations(range(5), k):
                index = strategy.pick([completions[p] for p in places], [scores[p] for p in places])
                picked.append(scores[places[index]].value)
            assert strategy.expected(completions, scores, k) == pytest.approx(mean(picked))


@pytest.mark.parametrize("strategy", [Majority(), BestOfN()])
def test_no_strategy_looks_at_the_grade(strategy: Strategy) -> None:
    completions, scores = drawn(5, 6)
    hidden = [Score(1.0 - (score.value or 0.0), score.answer) for score in scores]
    assert strategy.pick(completions, scores) == strategy.pick(completions, hidden)


class Last(Strategy):
    """A strategy with nothing but `pick`."""

    def pick(self, completions: list[Completion], scores: list[Score]) -> int:
        return len(scores) - 1


def test_a_strategy_needs_only_pick() -> None:
    completions, scores = drawn(1, 4)
    # last of 2 of 4: index 1 in one choice, 2 in two, 3 in three
    values = [score.value for score in scores]
    assert Last().expected(completions, scores, 2) == pytest.approx((values[1] + 2 * values[2] + 3 * values[3]) / 6)
    many = drawn(2, 20)
    assert Last().expected(*many, 8, seed=4) == Last().expected(*many, 8, seed=4)
    assert 0 <= Last().expected(*many, 8) <= 1


def test_rows_build_from_yaml() -> None:
    assert STRATEGIES.build("majority") == Majority()
    assert STRATEGIES.build({"best_of_n": {"scorer": "total_likelihood"}}) == BestOfN(scorer="total_likelihood")
