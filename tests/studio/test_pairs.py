"""Pairs without a vote first, then where a vote teaches most; and a voter may only be so quick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from burnish.evaluation.votes import Vote, VoteStore
from burnish.studio.pairs import Tally, choose_pair
from burnish.studio.rates import Rate


def none(models: int) -> np.ndarray:
    return np.zeros((models, models), dtype=np.int64)


def symmetric(models: int, **pairs: float) -> np.ndarray:
    """`_01=3` sets both (0, 1) and (1, 0)."""
    found = np.zeros((models, models))
    for pair, value in pairs.items():
        found[int(pair[1]), int(pair[2])] = found[int(pair[2]), int(pair[1])] = value
    return found


ALL = ~np.eye(4, dtype=bool)
ONES = 1.0 - np.eye(4)


def test_every_pair_gets_one_vote_first_and_the_first_ones_connect_all() -> None:
    votes, order = none(4), []
    for _ in range(6):
        pair = choose_pair(votes, ONES, none(4), ALL, seed=3)
        assert pair is not None
        order.append(pair)
        votes[pair] += 1
        votes[pair[::-1]] += 1
    assert set(order) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    # Two models that were in no battle meet each other next, and the third battle joins the two halves.
    assert set(order[0]) | set(order[1]) == {0, 1, 2, 3}
    assert len(set(order[0]) & set(order[2])) == 1


def test_then_the_largest_gain_counts() -> None:
    votes = np.ones((4, 4), dtype=np.int64) - np.eye(4, dtype=np.int64)
    gains = symmetric(4, _01=0.1, _02=0.2, _03=0.1, _12=0.3, _13=0.1, _23=0.1)
    assert choose_pair(votes, gains, none(4), ALL, 0) == (1, 2)
    allowed = ALL.copy()
    allowed[1, 2] = allowed[2, 1] = False
    assert choose_pair(votes, gains, none(4), allowed, 0) == (0, 2)
    assert choose_pair(votes, gains, none(4), ~ALL & False, 0) is None


def test_open_battles_count_as_if_they_were_voted_on() -> None:
    """Gain 0.3: x = exp(0.6) - 1 = 0.822; one open battle leaves log(1 + 0.822 / 1.822) / 2 = 0.186, below 0.2."""
    votes = np.ones((4, 4), dtype=np.int64) - np.eye(4, dtype=np.int64)
    gains = symmetric(4, _12=0.3, _02=0.2)
    open_ = symmetric(4, _12=1).astype(np.int64)
    assert choose_pair(votes, gains, open_, ALL, 0) == (0, 2)
    gains[0, 2] = gains[2, 0] = 0.18
    assert choose_pair(votes, gains, open_, ALL, 0) == (1, 2)


def test_the_same_votes_and_seed_choose_the_same_pair() -> None:
    chosen = {seed: choose_pair(none(4), ONES, none(4), ALL, seed) for seed in range(20)}
    assert chosen == {seed: choose_pair(none(4), ONES, none(4), ALL, seed) for seed in range(20)}
    assert len(set(chosen.values())) > 2


def test_tally_counts_new_votes_only_and_knows_what_teaches(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.sqlite")
    tally = Tally(store)
    tally.update()
    assert tally.votes(["a", "b", "c"]).sum() == 0 and tally.gains(["a", "b"]).tolist() == [[0, 1], [1, 0]]
    store.add_all(Vote(f"1{number}", "a", "b", "model_a" if number % 2 else "model_b", "ann") for number in range(40))
    store.add(Vote("2", "c", "b", "tie", "ann"))
    tally.update()
    store.add(Vote("3", "b", "c", "tie", "ann"))
    tally.update()
    assert tally.votes(["a", "b", "c"]).tolist() == [[0, 40, 0], [40, 0, 2], [0, 2, 0]]
    gains = tally.gains(["a", "b", "c"])
    assert gains[0, 1] < gains[1, 2] and gains[0, 1] < gains[0, 2]
    assert gains == pytest.approx(gains.T)


def test_a_rate_is_each_ones_own_and_says_how_long() -> None:
    now = [0.0]
    rate = Rate(2, 60.0, lambda: now[0])
    rate.count("ann")
    now[0] = 10
    assert rate.wait("ann") == 0
    rate.count("ann")
    assert rate.wait("ann") == 50 and rate.wait("bob") == 0
    now[0] = 60
    assert rate.wait("ann") == 0
    rate.count("ann")
    assert rate.wait("ann") == 10  # the votes at 10 and 60 s are within a minute until 70 s
