"""Ratings from votes: known strengths, worlds that are simulated, models that never lost, voters that repeat."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.errors import EvaluationError
from burnish.evaluation import ranking
from burnish.evaluation.ranking import (
    CENTER,
    FEW,
    PRIOR,
    SCALE,
    Battles,
    battles,
    known_voters,
    most_telling,
    rank,
    win_rate,
)
from burnish.evaluation.style import counts, with_style

Row = tuple[str, str, float, str]


def votes(wins: dict[tuple[str, str], int], voter: str = "") -> list[Row]:
    return [(one, two, 1.0, voter) for (one, two), count in wins.items() for _ in range(count)]


def world(strengths: np.ndarray, n: int, seed: int, ties: float = 0.4, clusters: int = 0) -> Battles:
    """Votes drawn from Davidson's model."""
    rng = np.random.default_rng(seed)
    models = len(strengths)
    first = rng.integers(models, size=n)
    second = (first + 1 + rng.integers(models - 1, size=n)) % models
    gap = strengths[first] - strengths[second]
    shares = np.stack([np.exp(gap / 2), np.exp(-gap / 2), np.full(n, ties)], axis=1)
    shares /= shares.sum(1, keepdims=True)
    drawn = rng.random(n)
    outcome = np.where(drawn < shares[:, 0], 1.0, np.where(drawn < shares[:, 0] + shares[:, 1], 0.0, 0.5))
    names = tuple(f"m{k:02}" for k in range(models))
    return Battles(names, first, second, outcome, rng.integers(clusters, size=n) if clusters else None)


def strengths_of(found: ranking.Ranking) -> dict[str, float]:
    return dict(zip(found.models, ((found.ratings - CENTER) / SCALE).tolist(), strict=True))


def test_two_models_have_the_odds_of_their_votes() -> None:
    # 3,000 to 1,000: odds of three, a difference of ln 3 but for the prior (4 / 18 nats against 750 of information).
    found = rank(battles(votes({("a", "b"): 3000, ("b", "a"): 1000})), rounds=20)
    got = strengths_of(found)
    assert got["a"] - got["b"] == pytest.approx(math.log(3), abs=1e-3)
    assert found.models == ("a", "b") and found.ties == 0
    # Standard error of a log-odds ratio: sqrt(1/3000 + 1/1000); half of it for each model around their mean.
    assert found.stderr == pytest.approx(SCALE * math.sqrt(1 / 3000 + 1 / 1000) / 2, rel=0.01)


def test_a_published_example() -> None:
    """Four teams, from the article on the Bradley-Terry model in Wikipedia: p = 0.640, 1.043, 0.660, 2.270."""
    wins = {("A", "B"): 2, ("A", "D"): 1, ("B", "A"): 3, ("B", "C"): 5, ("C", "B"): 3, ("C", "D"): 1, ("D", "A"): 4,
            ("D", "C"): 3}  # fmt: skip
    many = {pair: 1000 * count for pair, count in wins.items()}  # so that the prior does not matter
    got = strengths_of(rank(battles(votes(many)), rounds=5))
    assert {team: math.exp(value) for team, value in got.items()} == pytest.approx(
        {"A": 0.640, "B": 1.043, "C": 0.660, "D": 2.270}, abs=2e-3
    )


def test_ties_are_a_parameter_and_not_half_a_win() -> None:
    truth = np.array([-0.8, -0.2, 0.1, 0.9])
    found = rank(world(truth, 60_000, seed=1, ties=0.7), rounds=30)
    assert found.ties == pytest.approx(0.7, abs=0.02)
    assert [strengths_of(found)[f"m{k:02}"] for k in range(4)] == pytest.approx(truth.tolist(), abs=0.05)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth = np.array([-0.6, -0.1, 0.0, 0.7])
    inside = []
    for seed in range(60):
        found = rank(world(truth, 300, seed), rounds=100, seed=seed)
        for name, low, high in zip(found.models, found.low, found.high, strict=True):
            inside.append(low <= CENTER + SCALE * truth[int(name[1:])] <= high)
    assert 0.90 < np.mean(inside) < 0.99


def test_bootstrap_and_sandwich_agree() -> None:
    found = rank(world(np.array([-0.6, -0.1, 0.0, 0.7]), 4000, seed=3, clusters=400), rounds=400)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(found.stderr, rel=0.12)


def test_a_voter_who_votes_a_hundred_times_is_one_voter() -> None:
    once = world(np.array([-0.5, 0.0, 0.5]), 200, seed=4)
    repeated = Battles(once.models, *(np.repeat(part, 100) for part in (once.first, once.second, once.outcome)),
                       clusters=np.repeat(np.arange(200), 100))  # fmt: skip
    honest = rank(repeated, rounds=100)
    fooled = rank(Battles(repeated.models, repeated.first, repeated.second, repeated.outcome), rounds=100)
    single = rank(once, rounds=100)
    assert honest.stderr == pytest.approx(single.stderr, rel=0.1)
    assert fooled.stderr == pytest.approx(single.stderr / 10, rel=0.1)


def test_a_model_that_never_lost_is_finite_and_uncertain() -> None:
    found = rank(battles(votes({("best", "a"): 20, ("a", "b"): 10, ("b", "a"): 10})), rounds=300)
    place = found.models.index("best")
    assert place == 0 and found.ratings[0] < CENTER + SCALE * 2 * PRIOR
    width = found.high - found.low
    assert width[0] > width[1] and width[0] > 200


def test_ranks_name_what_is_sure() -> None:
    found = rank(world(np.array([-1.5, -1.45, 1.5]), 6000, seed=5), rounds=200)
    assert found.models[0] == "m02"
    assert found.ranks.tolist() == [1, 2, 2] and found.worst_ranks.tolist() == [1, 3, 3]


def test_models_that_no_vote_connects_are_told() -> None:
    found = rank(battles(votes({("a", "b"): 3, ("b", "a"): 2, ("x", "y"): 1, ("b", "c"): 1})), rounds=5)
    assert found.groups == (("a", "b", "c"), ("x", "y"))


def test_style_is_told_apart_from_strength() -> None:
    base = world(np.array([-0.5, 0.0, 0.5]), 40_000, seed=6, ties=0.5)
    rng = np.random.default_rng(7)
    feature = rng.normal(size=(40_000, 1)) + 0.8 * ((base.first == 0).astype(float) - (base.second == 0))[:, None]
    truth = np.array([-0.5, 0.0, 0.5])
    gap = truth[base.first] - truth[base.second] + 0.6 * feature[:, 0]
    shares = np.stack([np.exp(gap / 2), np.exp(-gap / 2), np.full(len(gap), 0.5)], axis=1)
    shares /= shares.sum(1, keepdims=True)
    drawn = rng.random(len(gap))
    outcome = np.where(drawn < shares[:, 0], 1.0, np.where(drawn < shares[:, 0] + shares[:, 1], 0.0, 0.5))
    plain = rank(Battles(base.models, base.first, base.second, outcome), rounds=10)
    styled = rank(Battles(base.models, base.first, base.second, outcome, None, feature, ("length",)))
    assert [strengths_of(styled)[f"m{k:02}"] for k in range(3)] == pytest.approx(truth.tolist(), abs=0.06)
    assert strengths_of(plain)["m00"] > -0.3  # long answers hide that it is weak
    effect, error = styled.style["length"]
    assert effect == pytest.approx(0.6 * SCALE, abs=3 * error)


def test_style_is_counted_by_hand() -> None:
    answer = "# Title\n\n- one **bold**\n- two\n\n```\n- no item\n```"
    assert counts(answer) == [12, 1, 2, 1]  # words: # Title - one **bold** - two ``` - no item ```
    votes = battles([("a", "b", 1.0, ""), ("b", "a", 0.0, ""), ("a", "b", 0.5, "")])
    styled = with_style(votes, [("one two three", "one"), ("one", "one two three"), ("x", "x")])
    # Words differ by 2 of 4 + 1, -2 of 5, 0: spread sqrt(0.32 / 3); the other features never differ.
    assert styled.feature_names == ("words",)
    assert styled.features is not None
    assert styled.features[:, 0] == pytest.approx([0.4 / (0.32 / 3) ** 0.5, -0.4 / (0.32 / 3) ** 0.5, 0])
    with pytest.raises(EvaluationError, match="do not differ in style"):
        with_style(votes, [("", "")] * 3)


def test_the_order_of_votes_and_sides_does_not_matter() -> None:
    one = world(np.array([-0.5, 0.0, 0.5, 0.2]), 500, seed=8)
    order = np.random.default_rng(0).permutation(500)
    other = Battles(one.models, one.second[order], one.first[order], 1 - one.outcome[order])
    assert strengths_of(rank(one, rounds=2)) == pytest.approx(strengths_of(rank(other, rounds=2)), abs=1e-7)


def test_a_vote_teaches_most_where_least_is_known() -> None:
    found = rank(battles(votes({("a", "b"): 200, ("b", "a"): 190, ("a", "c"): 2, ("c", "a"): 2})), rounds=5)
    gains = most_telling(found, ["a", "b", "c", "new"])
    assert gains[0, 1] < gains[0, 2] < gains[0, 3]
    assert np.allclose(gains, gains.T) and np.diag(gains).tolist() == [0, 0, 0, 0]


def test_a_million_votes_are_counted_by_pair() -> None:
    found = rank(world(np.linspace(-1, 1, 40), 1_000_000, seed=9, clusters=20_000), rounds=10)
    assert np.corrcoef([int(name[1:]) for name in found.models], -np.arange(40))[0, 1] > 0.999


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "no votes"), ([("a", "a", 1.0, "")], "'a' with itself"), ([("a", "b", 0.7, "")], "got 0.7")],
)
def test_votes_that_cannot_be_counted(rows: list[Row], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        battles(rows)


def test_one_voter_tells_nothing_of_voters() -> None:
    rows = [("new", "base", float(k < 7), "me") for k in range(10)]
    kept, voters = known_voters(rows)
    assert voters == 1 and {voter for *_, voter in kept} == {""}
    wins = win_rate(rank(battles(kept)), "new", "base")
    assert wins.low < 0.5 < wins.mean  # 7 of 10 is no proof
    many = [("new", "base", 1.0, f"voter {k}") for k in range(FEW)]
    assert known_voters(many) == (many, FEW)
