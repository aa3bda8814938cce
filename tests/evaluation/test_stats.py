"""Statistics against sums done by hand, textbook values, and brute force."""

from __future__ import annotations

import math
from itertools import combinations
from random import Random

import numpy as np
import pytest

from burnish.evaluation import stats


def test_mean_of_graded_values_by_hand() -> None:
    # mean (0 + 0.5 + 1 + 0.5) / 4 = 0.5; squares 0.25 + 0 + 0.25 + 0 = 0.5, / 3 = 0.16667, / 4 -> se 0.20412
    # t(0.975, 3 degrees) = 3.18245, reach 0.64962
    found = stats.mean_interval([0.0, 0.5, 1.0, 0.5])
    assert (found.n, found.mean) == (4, 0.5)
    assert found.stderr == pytest.approx(0.204124, abs=1e-6)
    assert (found.low, found.high) == (pytest.approx(-0.149609, abs=1e-4), pytest.approx(1.149609, abs=1e-4))
    clipped = stats.mean_interval([0.0, 0.5, 1.0, 0.5], bounds=(0.0, 1.0))
    assert (clipped.low, clipped.high) == (0.0, 1.0)


def test_wilson_textbook_values() -> None:
    # 81 of 263: Wilson without continuity correction 0.2553 to 0.3662 (Newcombe 1998, Statistics in
    # Medicine 17:857, table I); 0 of 20: 0 to 0.1611; 1 of 29: 0.0061 to 0.1718
    for right, n, low, high in ((81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        found = stats.mean_interval([1.0] * right + [0.0] * (n - right))
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize("values", [[0.0] * 7, [1.0] * 7, [1.0], [0.0, 1.0]])
def test_interval_of_shares_stays_inside_and_has_width(values: list[float]) -> None:
    found = stats.mean_interval(values)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.high - found.low > 0.1


def test_one_graded_value_says_nothing_about_spread() -> None:
    assert stats.mean_interval([0.4], bounds=(0.0, 1.0)).high == 1.0
    assert math.isinf(stats.across_seeds([0.4]).high)
    with pytest.raises(ValueError, match="no values"):
        stats.mean_interval([])


def test_clusters_by_hand() -> None:
    # Two texts with two questions each, answered alike: deviations +-0.5, sums +1 and -1.
    # sqrt((1 + 1) * 2 / (2 - 1)) / 4 = 0.5, against 0.28868 for four independent items
    found = stats.mean_interval([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    assert found.stderr == pytest.approx(0.5)
    # as many independent items as have this standard error: 0.25 / 0.25 = 1
    assert (found.low, found.high) == stats.wilson(0.5, 1.0)
    alone = stats.mean_interval([1.0, 1.0, 0.0, 0.0], ["a", "b", "c", "d"])
    assert alone.stderr == pytest.approx(stats.mean_interval([1.0, 1.0, 0.0, 0.0]).stderr)
    same = stats.mean_interval([1.0] * 6, ["a", "a", "a", "b", "b", "b"])
    assert (same.low, same.high) == stats.wilson(1.0, 2.0)


def test_across_seeds_by_hand() -> None:
    # 0.70 0.72 0.74: mean 0.72, deviation 0.02, se 0.011547, t(0.975, 2) = 4.30265 -> 0.049683
    found = stats.across_seeds([0.70, 0.72, 0.74])
    assert (found.low, found.high) == (pytest.approx(0.670317, abs=1e-5), pytest.approx(0.769683, abs=1e-5))


def test_macro_by_hand() -> None:
    # means 0.2 and 0.6 -> 0.4; down sqrt(0.1^2 + 0.2^2) / 2 = 0.111803; up the same; se 0.05 / 2 * sqrt 2
    parts = [stats.Estimate(10, 0.2, 0.05, 0.1, 0.4), stats.Estimate(90, 0.6, 0.05, 0.4, 0.7)]
    found = stats.macro(parts)
    assert (found.n, found.mean) == (100, pytest.approx(0.4))
    assert found.low == pytest.approx(0.4 - 0.111803, abs=1e-6)
    assert found.high == pytest.approx(0.4 + 0.111803, abs=1e-6)
    assert found.stderr == pytest.approx(0.0353553, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------------- pairs


def test_paired_shares_by_hand() -> None:
    # 10 items: 5 fixed, 1 broken, 4 the same. Difference 0.4; exact McNemar on 1 of 6: 2 * (1 + 6) / 64 = 0.21875.
    # d: five +1, one -1, four 0: squares sum 6 - 10 * 0.16 = 4.4, / 9 / 10 -> se 0.221108
    first = [0.0] * 5 + [1.0] + [1.0, 1.0, 0.0, 0.0]
    second = [1.0] * 5 + [0.0] + [1.0, 1.0, 0.0, 0.0]
    found = stats.paired(first, second)
    assert (found.n, found.fixed, found.broken) == (10, 5, 1)
    assert found.difference == pytest.approx(0.4)
    assert found.stderr == pytest.approx(0.221108, abs=1e-6)
    assert found.p_value == pytest.approx(0.21875)
    assert found.low < 0 < 0.4 < found.high
    back = stats.paired(second, first)
    assert (back.low, back.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_tango_limits_solve_the_score_equation() -> None:
    for fixed, broken, n in ((9, 3, 54), (40, 2, 60), (0, 7, 30)):
        low, high = stats._tango(fixed, broken, n)
        assert stats._tango_score(fixed, broken, n, low) == pytest.approx(stats.Z, abs=1e-6)
        assert stats._tango_score(fixed, broken, n, high) == pytest.approx(-stats.Z, abs=1e-6)
        assert -1 <= low < (fixed - broken) / n < high <= 1
    # Nothing changed in n items: the limits are z^2 / (n + z^2), not zero. 3.84146 / 23.84146 = 0.161125
    assert stats._tango(0, 0, 20) == (pytest.approx(-0.161125, abs=1e-6), pytest.approx(0.161125, abs=1e-6))
    assert stats._tango(5, 0, 5)[1] == 1.0
    assert stats._tango(0, 5, 5)[0] == -1.0


def test_score_interval_and_bootstrap_agree_where_both_hold() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.random(2000) < 0.5).astype(float), (rng.random(2000) < 0.6).astype(float)
    found = stats.paired(first.tolist(), second.tolist())
    low, high = stats._bootstrap(second - first, None, 0)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.003), pytest.approx(high, abs=0.003))
    # the sign-flip test, exact McNemar and the normal test agree as well
    p_value = stats._sign_flips((second - first) / 2000, None, 0)
    assert found.p_value == pytest.approx(p_value, abs=0.003)


def test_sign_flips_by_hand() -> None:
    # d = 1, 1, 1: of 8 sign patterns 2 reach |3|: p = 0.25 (with Monte Carlo noise below 0.015)
    assert stats._sign_flips(np.array([1.0, 1.0, 1.0]), None, 0) == pytest.approx(0.25, abs=0.015)
    # as two clusters {1, 1}, {1}: of 4 patterns 2 reach |3|: p = 0.5
    assert stats._sign_flips(np.array([1.0, 1.0, 1.0]), np.array([0, 0, 1]), 0) == pytest.approx(0.5, abs=0.015)
    assert stats._sign_flips(np.zeros(4), None, 0) == 1.0


def test_clusters_widen_a_paired_difference() -> None:
    first, second = [0.0] * 40, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * 5
    names = [str(index // 4) for index in range(40)]
    alone, together = stats.paired(first, second), stats.paired(first, second, names)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert together.p_value > alone.p_value
    assert stats.paired(first, second, names) == together  # seeded


def test_intervals_cover_and_tests_keep_their_level() -> None:
    """2,000 simulated comparisons of two equal models: about 95% of the intervals hold 0, and p < 0.05 is rare."""
    rng = np.random.default_rng(1)
    covered, rejected, rounds = 0, 0, 2000
    for _ in range(rounds):
        hard = rng.random(60)
        first, second = (rng.random(60) < hard).astype(float), (rng.random(60) < hard).astype(float)
        found = stats.paired(first.tolist(), second.tolist())
        covered += found.low <= 0 <= found.high
        rejected += found.p_value < 0.05
    assert 0.93 < covered / rounds < 0.975
    assert rejected / rounds < 0.055


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same items"):
        stats.paired([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="cluster names"):
        stats.mean_interval([1.0, 0.0], ["a"])


def test_paired_macro_weighs_tasks_alike() -> None:
    few, many = stats.paired([0.0] * 4, [1.0] * 4), stats.paired([0.0] * 40, [0.0] * 40)
    found = stats.paired_macro({"few": (few, [1.0] * 4, None), "many": (many, [0.0] * 40, None)})
    assert (found.difference, found.n, found.fixed) == (0.5, 44, 4)
    # only the four changed items flip: p = 2 / 16
    assert found.p_value == pytest.approx(0.125, abs=0.012)
    # as two clusters: p = 2 / 4
    pairs = stats.paired_macro({"few": (few, [1.0] * 4, ["a", "a", "b", "b"]), "many": (many, [0.0] * 40, None)})
    assert pairs.p_value == pytest.approx(0.5, abs=0.015)
    assert stats.paired_macro({"few": (few, [1.0] * 4, None)}) == few


# -------------------------------------------------------------------------------------------------------------- samples


def test_pass_at_k_by_hand() -> None:
    # 2 right of 5, choose 3: 1 - C(3, 3) / C(5, 3) = 0.9
    assert stats.pass_at_k(5, 2, 3) == pytest.approx(0.9)
    assert stats.pass_at_k(5, 0, 5) == 0.0
    assert stats.pass_at_k(5, 3, 3) == 1.0
    with pytest.raises(ValueError, match="cannot choose"):
        stats.pass_at_k(5, 1, 6)


def brute_majority(answers: list[str | None], values: list[float], k: int) -> float:
    total, count = 0.0, 0
    for places in combinations(range(len(answers)), k):
        voting = [place for place in places if answers[place] is not None]
        if voting:
            votes = [answers[place] for place in voting]
            top = max(votes.count(answer) for answer in votes)
            winners = {answer for answer in votes if votes.count(answer) == top}
            shares = []
            for answer in winners:
                mine = [values[place] for place in voting if answers[place] == answer]
                shares.append(sum(mine) / len(mine))
            total += sum(shares) / len(shares)
        else:
            total += sum(values[place] for place in places) / k
        count += 1
    return total / count


def test_majority_and_best_of_k_equal_brute_force() -> None:
    rng = Random(0)
    for _ in range(60):
        n = rng.randint(1, 8)
        answers = [rng.choice(["a", "b", "c", None]) for _ in range(n)]
        values = [rng.choice([0.0, 0.5, 1.0]) for _ in range(n)]
        scores = [float(rng.randint(0, 3)) for _ in range(n)]
        k = rng.randint(1, n)
        assert stats.majority_at_k(answers, values, k) == pytest.approx(brute_majority(answers, values, k))
        best = []
        for places in combinations(range(n), k):
            top = max(scores[place] for place in places)
            tied = [values[place] for place in places if scores[place] == top]
            best.append(sum(tied) / len(tied))
        assert stats.best_of_k(scores, values, k) == pytest.approx(sum(best) / len(best))


def test_one_of_k_is_plain_sampling() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0]
    assert stats.majority_at_k(["a", "b", None, "a", "c"], values, 1) == pytest.approx(0.6)
    assert stats.best_of_k([5.0, 4.0, 3.0, 2.0, 1.0], values, 1) == pytest.approx(0.6)


def test_equal_values_leave_room() -> None:
    # Wilson's interval of 5 of 10: 0.5 +- 1.96 sqrt(0.25 / 10 + 1.96^2 / 400) / (1 + 1.96^2 / 10) = 0.5 +- 0.2634
    found = stats.mean_interval([0.5] * 10, bounds=(0.0, 1.0))
    assert (found.low, found.high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert stats.mean_interval([4.0] * 10, bounds=(1.0, 7.0)).low == pytest.approx(1 + 6 * 0.2366, abs=1e-3)


def test_differences_that_are_all_alike_leave_room() -> None:
    # Tango's interval when none of n items changed: +- 1.96^2 / (n + 1.96^2)
    reach = 3.8415 / (4 + 3.8415)
    found = stats.paired([0.25] * 4, [0.25] * 4)
    assert (found.low, found.high) == (pytest.approx(-reach, abs=1e-3), pytest.approx(reach, abs=1e-3))
    up = stats.paired([0.25] * 4, [0.5] * 4)
    assert up.low < 0 < up.high == pytest.approx(0.25 + reach, abs=1e-3)
