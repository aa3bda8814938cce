"""What a finite number of items can say: intervals, paired differences, and what k samples of an answer are worth.

All intervals are 95 %. Nothing here reads files or knows models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy import stats as distributions

from burnish.rng import seed_for

LEVEL = 0.95
UNIT = (0.0, 1.0)
"""The scale of shares and grades."""
Z = float(distributions.norm.ppf(0.5 + LEVEL / 2))
ROUNDS = 10_000
"""Draws of a bootstrap or permutation test."""
CHUNK = 4_000_000
"""Random numbers held at once."""

Vector = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` values with its standard error and 95 % interval."""

    n: int
    mean: float
    stderr: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much better the second of two models is on the same items."""

    n: int
    difference: float
    """Mean of second minus first."""
    stderr: float
    low: float
    high: float
    p_value: float
    """Two-sided, of no difference."""
    fixed: int
    """Items on which the second is better."""
    broken: int
    """Items on which the second is worse."""


@dataclass(frozen=True, slots=True)
class Point:
    """What `n` samples of each answer give, averaged over all choices of `n` among the drawn ones."""

    n: int
    tokens: float
    """Tokens a question: its prompt once and the `n` answers."""
    accuracy: Estimate
    ceiling: Estimate
    """pass@n: the accuracy of a picker that always finds a right answer among the `n`."""
    gain: PairedDifference
    """Accuracy against that of one sample, item by item."""
    unscored: int = 0
    """Items left out because an answer to them could not be graded."""


def point_from_row(row: Mapping[str, Any]) -> Point:
    """A point from the form of `dataclasses.asdict`."""
    parts = {"accuracy": Estimate(**row["accuracy"]), "ceiling": Estimate(**row["ceiling"]),
             "gain": PairedDifference(**row["gain"])}  # fmt: skip
    return Point(**{**row, **parts})


# ------------------------------------------------------------------------------------------------------------- one mean


def cluster_names(ids: Sequence[str], clusters: Sequence[str]) -> list[str] | None:
    """Names for `clusters` arguments, where any item shares one; an item without (empty text) stands alone."""
    if not any(clusters):
        return None
    return [f"in {shared}" if shared else f"alone {one}" for one, shared in zip(ids, clusters, strict=True)]


def mean_interval(
    values: Sequence[float], clusters: Sequence[str] | None = None, bounds: tuple[float, float] | None = None
) -> Estimate:
    """Mean with its 95 % interval: Wilson's for 0/1 values, which stays in [0, 1], Student's t for others.

    `clusters` names what items have in common (one text, one author): their values may then go together, and the
    standard error says so. `bounds` clips the interval of graded values to their scale. One value that is not 0/1
    says nothing about spread: its interval is all of `bounds`, or infinite. Several that are all the same do not
    either: with `bounds` theirs is Wilson's, as if each were one bound or the other. Raises ValueError for no values.

    Source: standard error with n-1, clustered as in arXiv:2411.00640 eq. 4; with them Wilson's interval uses the
    number of independent items that has the same standard error, and t the number of clusters.
    """
    x = _vector(values)
    n, mean = len(x), float(x.mean())
    names = None if clusters is None else _codes(clusters, n)
    groups = n if names is None else int(names.max()) + 1
    stderr = _stderr(x, names)
    if _binary(x):
        spread = mean * (1 - mean)
        # Without spread, or with one item alone, nothing shows how far items go together: each cluster counts as one.
        known = names is not None and 0 < stderr < math.inf
        effective = min(float(n), spread / stderr**2) if known else float(n if names is None else groups)
        low, high = wilson(mean, effective)
    else:
        reach = float(distributions.t.ppf(0.5 + LEVEL / 2, groups - 1)) * stderr if groups > 1 else math.inf
        low, high = mean - reach, mean + reach
    if bounds and stderr == 0 and not _binary(x):
        scale = bounds[1] - bounds[0]
        low, high = (bounds[0] + scale * share for share in wilson((mean - bounds[0]) / scale, groups))
    if bounds:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(n, mean, stderr, low, high)


def wilson(mean: float, n: float) -> tuple[float, float]:
    """The score interval of a share of `n` independent yes/no values. Source: Wilson 1927, doi:10.2307/2276774."""
    scale = 1 + Z**2 / n
    center = (mean + Z**2 / (2 * n)) / scale
    reach = Z / scale * math.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return (0.0 if mean == 0 else center - reach), (1.0 if mean == 1 else center + reach)


def across_seeds(values: Sequence[float]) -> Estimate:
    """Mean over repeated runs with Student's t interval: what another seed would likely give on average."""
    x = _vector(values)
    n, mean, stderr = len(x), float(x.mean()), _stderr(x, None)
    reach = float(distributions.t.ppf(0.5 + LEVEL / 2, n - 1)) * stderr if n > 1 else math.inf
    return Estimate(n, mean, stderr, mean - reach, mean + reach)


def macro(parts: Sequence[Estimate]) -> Estimate:
    """The plain mean of independent means, each with the same weight whatever its number of items.

    The interval adds the parts' distances to their own limits in squares, so that it inherits Wilson's good manners
    near 0 and 1. A single part is returned as it is. Source: MOVER, Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    if len(parts) == 1:
        return parts[0]
    low, high, stderr = _mover([(part.mean, part.low, part.high, part.stderr) for part in parts])
    mean = sum(part.mean for part in parts) / len(parts)
    return Estimate(sum(part.n for part in parts), mean, stderr, mean - low, mean + high)


def _mover(parts: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float]:
    """Distances from the mean of means down and up to its limits, and its standard error."""
    k = len(parts)
    down = math.sqrt(sum((mean - low) ** 2 for mean, low, _, _ in parts)) / k
    up = math.sqrt(sum((high - mean) ** 2 for mean, _, high, _ in parts)) / k
    return down, up, math.sqrt(sum(stderr**2 for *_, stderr in parts)) / k


# --------------------------------------------------------------------------------------------------- paired differences


def paired(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str] | None = None, seed: int = 0
) -> PairedDifference:
    """Mean of `second - first` over the same items, with its 95 % interval and two-sided p-value.

    0/1 values without clusters: Tango's score interval and the exact McNemar test. Otherwise: percentile bootstrap
    and sign-flip permutation test, both over whole clusters, seeded. The bootstrap alone would give an interval of
    width zero to two models that agree on the few items there are, or differ alike on all: then it is as wide as
    Tango's of so many items that did not change. Raises ValueError when the lengths differ.

    Source: Tango 1998, Statistics in Medicine 17:891; McNemar 1947, doi:10.1007/BF02295996.
    """
    if len(first) != len(second):
        raise ValueError(f"paired values must be of the same items, got {len(first)} and {len(second)}")
    a, b = _vector(first), _vector(second)
    d = b - a
    n, difference = len(d), float(d.mean())
    names = None if clusters is None else _codes(clusters, n)
    fixed, broken = int((d > 0).sum()), int((d < 0).sum())
    if names is None and _binary(a) and _binary(b):
        low, high = _tango(fixed, broken, n)
        p_value = _mcnemar(fixed, broken)
    else:
        low, high = _bootstrap(d, names, seed)
        if low == high:  # items that all differ alike do not show how others would
            groups = n if names is None else int(names.max()) + 1
            low, high = (max(-1.0, min(1.0, difference + edge)) for edge in _tango(0, 0, groups))
        p_value = _sign_flips(d / n, names, seed)
    return PairedDifference(n, difference, _stderr(d, names), low, high, p_value, fixed, broken)


def paired_macro(
    parts: Mapping[str, tuple[PairedDifference, Sequence[float], Sequence[str] | None]], seed: int = 0
) -> PairedDifference:
    """The plain mean of the paired differences of several tasks.

    `parts`: task -> (its difference, second minus first of each item, the items' clusters). Interval as in `macro`;
    p-value by flipping signs of items or clusters within the tasks. A single part is returned as it is.
    """
    found = [part for part, *_ in parts.values()]
    if len(found) == 1:
        return found[0]
    down, up, stderr = _mover([(part.difference, part.low, part.high, part.stderr) for part in found])
    difference = sum(part.difference for part in found) / len(found)
    weights = np.concatenate([_vector(d) / (len(d) * len(found)) for _, d, _ in parts.values()])
    names = [
        f"{task} {name}"
        for task, (_, d, clusters) in parts.items()
        for name in (clusters if clusters is not None else range(len(d)))
    ]
    p_value = _sign_flips(weights, _codes(names, len(weights)), seed)
    fixed, broken = sum(part.fixed for part in found), sum(part.broken for part in found)
    n = sum(part.n for part in found)
    return PairedDifference(n, difference, stderr, difference - down, difference + up, p_value, fixed, broken)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: those below 5 % are all real with 95 % confidence, whatever depends on what.

    Source: Holm 1979, https://www.jstor.org/stable/4615733. The smallest is multiplied by their number, the next by one
    less, and none may fall below a smaller one.
    """
    adjusted, before = [0.0] * len(p_values), 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        before = max(before, min(1.0, p_values[number] * (len(p_values) - place)))
        adjusted[number] = before
    return adjusted


def items_needed(found: PairedDifference, difference: float = 0.01, power: float = 0.8) -> int | None:
    """How many items like these show a true difference of so much at the 5 % level, this often.

    From the spread of the paired differences that were seen: n = ((z_0.975 + z_power) sd / difference)^2. None when the
    spread is unknown: a single item, or models that agree on every item. Source: arXiv:2411.00640 eq. 9.
    """
    spread = found.stderr * math.sqrt(found.n)
    if not math.isfinite(spread) or spread == 0:
        return None
    return math.ceil(((Z + float(distributions.norm.ppf(power))) * spread / difference) ** 2)


def _tango(fixed: int, broken: int, n: int) -> tuple[float, float]:
    """All differences that a score test at 5 % does not reject, from the numbers of items that changed."""
    difference, edge = (fixed - broken) / n, 1 - 1e-12

    def excess(delta: float, limit: float) -> float:
        return _tango_score(fixed, broken, n, delta) - limit

    low = -1.0 if difference == -1 else optimize.brentq(excess, -edge, difference, args=(Z,))
    high = 1.0 if difference == 1 else optimize.brentq(excess, difference, edge, args=(-Z,))
    return float(low), float(high)


def _tango_score(fixed: int, broken: int, n: int, delta: float) -> float:
    """Observed minus supposed difference in standard errors, under the likeliest shares that differ by `delta`."""
    b = fixed + broken - delta * (2 * n - fixed + broken)
    lost = (b + math.sqrt(max(0.0, b * b + 8 * n * broken * delta * (1 - delta)))) / (4 * n)
    variance = n * (2 * lost + delta * (1 - delta))
    return (fixed - broken - n * delta) / math.sqrt(max(variance, 1e-300))


def _mcnemar(fixed: int, broken: int) -> float:
    """How often a fair coin would split the changed items at least this unevenly."""
    changed = fixed + broken
    return float(distributions.binomtest(fixed, changed, 0.5).pvalue) if changed else 1.0


def _bootstrap(d: Vector, names: Codes | None, seed: int) -> tuple[float, float]:
    """2.5 % and 97.5 % points of the mean over clusters drawn again with replacement."""
    codes = np.arange(len(d)) if names is None else names
    rows = np.stack([np.bincount(codes, d), np.bincount(codes)], axis=1)  # (clusters, 2): sum and number of items
    kinds, counts = np.unique(rows, axis=0, return_counts=True)  # equal clusters are drawn together
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    means = []
    for size in _chunks(len(kinds)):
        sums = rng.multinomial(len(rows), counts / len(rows), size=size) @ kinds  # (size, 2)
        means.append(sums[:, 0] / sums[:, 1])
    low, high = np.quantile(np.concatenate(means), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def _sign_flips(weights: Vector, names: Codes | None, seed: int) -> float:
    """How often the sum is as far from zero when each item's (cluster's) sign is a fair coin."""
    sums = np.abs(weights if names is None else np.bincount(names, weights))
    observed = abs(float(weights.sum())) * (1 - 1e-12)
    kinds, counts = np.unique(sums[sums > 0], return_counts=True)
    if not len(kinds):
        return 1.0
    rng = np.random.default_rng(seed_for(seed, "sign flips"))
    as_far = 0
    for size in _chunks(len(kinds)):
        flipped = 2 * rng.binomial(counts, 0.5, size=(size, len(counts))) - counts
        as_far += int((np.abs(flipped @ kinds) >= observed).sum())
    return (1 + as_far) / (1 + ROUNDS)


def _chunks(width: int) -> list[int]:
    """ROUNDS in parts that keep `width` numbers a round within CHUNK."""
    size = max(1, min(ROUNDS, CHUNK // width))
    return [size] * (ROUNDS // size) + ([ROUNDS % size] if ROUNDS % size else [])


# ---------------------------------------------------------------------------------------------------- raters and judges


def agreement(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The share of items that two raters call the same, with Wilson's interval."""
    return mean_interval([float(a == b) for a, b in zip(first, second, strict=True)])


def kappa(first: Sequence[float], second: Sequence[float], clusters: Sequence[str] | None = None, seed: int = 0
          ) -> Estimate:  # fmt: skip
    """Cohen's kappa of two raters' calls: agreement beyond what their habits alone would give; 1 is perfect, 0 chance.

    Interval and standard error from a bootstrap over items (clusters). Where both raters call everything the same,
    there is nothing to agree on beyond chance, and kappa is 0. Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    a, b = _vector(first), _vector(second)
    calls, joint = np.unique(np.concatenate([a, b]), return_inverse=True)
    size = len(calls)
    cells = joint[: len(a)] * size + joint[len(a) :]
    groups = np.arange(len(a)) if clusters is None else _codes(clusters, len(a))
    table = np.zeros((int(groups.max()) + 1, size * size))
    np.add.at(table, (groups, cells), 1)
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    rng = np.random.default_rng(seed_for(seed, "kappa"))
    draws = rng.multinomial(len(table), counts / len(table), size=ROUNDS // 5) @ kinds
    found = _kappa(draws.reshape(-1, size, size))
    low, high = np.quantile(found, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    value = float(_kappa(table.sum(0).reshape(1, size, size))[0])
    return Estimate(len(a), value, float(found.std(ddof=1)), float(low), float(high))


def _kappa(tables: Vector) -> Vector:
    """Kappas (B,) of tables (B, K, K) of how often one rater's call k met the other's call l."""
    shares = tables / tables.sum((1, 2), keepdims=True)
    same = np.trace(shares, axis1=1, axis2=2)
    chance = (shares.sum(1) * shares.sum(2)).sum(1)
    return np.where(chance < 1, (same - chance) / np.where(chance < 1, 1 - chance, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class Corrected:
    """A mean that a few human labels and many of a judge's verdicts give together."""

    estimate: Estimate
    humans: Estimate
    """From the human labels alone."""
    judge: Estimate
    """From the judge alone, its bias included."""
    bias: float
    """Judge minus human on the items that both saw."""
    trust: float
    """How much of the judge is used, 0 to 1: 0 when it says nothing about the human labels."""
    worth: float
    """Human labels that would give the same interval without the judge, for each one that there is."""

    def with_known(self, value: float, count: int, of: int) -> Corrected:
        """The same over the `of` items and `count` others whose value is known to all, such as ties."""
        share = of / (of + count)

        def mixed(one: Estimate) -> Estimate:
            mean, low, high = (share * part + (1 - share) * value for part in (one.mean, one.low, one.high))
            return Estimate(one.n, mean, share * one.stderr, low, high)

        return replace(self, estimate=mixed(self.estimate), humans=mixed(self.humans), judge=mixed(self.judge))


def prediction_powered(human: Sequence[float], judged: Sequence[float], rest: Sequence[float]) -> Corrected:
    """The human mean of all items, of which people have labelled a few and a judge all.

    mean(human) + trust (mean(rest) - mean(judged)), which is unbiased whatever the judge does, with the trust that
    makes its variance smallest. Interval: Student's t with n - 1, from n labelled and N other items, within 0 and 1.
    Where nothing varies it is Wilson's of n items, and where there are no others the judge has no part in it.

    Args:
        human, judged: labels from 0 to 1 of the same n items. rest: the judge's labels of the N others.
    Raises:
        ValueError: for fewer than two labelled items.
    Source:
        Prediction-powered inference with power tuning, arXiv:2311.01453, eq. for means: trust is
        cov(human, judged) / ((1 + n/N) var(judge)).
    """
    h, j, r = _vector(human), _vector(judged), np.asarray(rest, dtype=np.float64)
    if len(h) != len(j) or len(h) < 2:
        raise ValueError(f"{len(h)} human labels and {len(j)} verdicts on the same items: two at least are needed")
    n, others = len(h), len(r)
    spread = float(np.concatenate([j, r]).var(ddof=1))
    together = float(np.cov(h, j, ddof=1)[0, 1])
    trust = min(1.0, max(0.0, together / ((1 + n / others) * spread))) if spread > 0 and others else 0.0
    mean = float(h.mean() + (trust * (r.mean() - j.mean()) if others else 0.0))
    variance = float((h - trust * j).var(ddof=1)) / n + trust**2 * (float(r.var(ddof=1)) if others > 1 else 0.0) / max(
        1, others
    )
    stderr, alone = math.sqrt(variance), mean_interval(list(h), bounds=UNIT)
    worth = (alone.stderr / stderr) ** 2 if stderr > 0 else 1.0
    mean = min(1.0, max(0.0, mean))
    reach = float(distributions.t.ppf(0.5 + LEVEL / 2, n - 1)) * stderr
    low, high = (max(0.0, mean - reach), min(1.0, mean + reach)) if stderr > 0 else wilson(mean, n)
    judge = mean_interval([*j, *r], bounds=UNIT)
    return Corrected(Estimate(n, mean, stderr, low, high), alone, judge, float(j.mean() - h.mean()), trust, worth)


# ---------------------------------------------------------------------------------------- what k of n samples are worth


def pass_at_k(n: int, right: int, k: int) -> float:
    """Chance that at least one of `k` drawn from `n` samples is right. Source: arXiv:2107.03374 eq. 1."""
    _check_k(n, k)
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def best_of_k(scores: Sequence[float], values: Sequence[float], k: int) -> float:
    """Mean value of the best-scored of `k`, over all choices of `k` among the samples; ties share.

    The sample of rank r (1 is the lowest) is the best of C(r-1, k-1) of the C(n, k) choices.
    """
    n = len(scores)
    _check_k(n, k)
    s, v = _vector(scores), _vector(values)
    _, ties = np.unique(s, return_inverse=True)
    shared = (np.bincount(ties, v) / np.bincount(ties))[ties]
    order = np.argsort(s, kind="stable")
    chances = [math.comb(below, k - 1) / math.comb(n, k) for below in range(n)]
    return float(np.dot(chances, shared[order]))


def majority_at_k(answers: Sequence[str | None], values: Sequence[float], k: int) -> float:
    """Mean value of the most frequent answer among `k`, over all choices of `k` among the samples.

    Answers that tie share. None is a sample without an answer: it has no vote, and counts only where no sample of the
    choice has one. Exact, by counting the choices for each possible number of winning votes.
    """
    n = len(answers)
    _check_k(n, k)
    groups: dict[str | None, list[float]] = {}
    for answer, value in zip(answers, values, strict=True):
        groups.setdefault(answer, []).append(value)
    silent = groups.pop(None, [])
    total = sum(_with_top(list(groups.values()), len(silent), k, top) for top in range(1, k + 1))
    if len(silent) >= k:
        total += math.comb(len(silent), k) * sum(silent) / len(silent)
    return total / math.comb(n, k)


def _with_top(groups: Sequence[Sequence[float]], silent: int, k: int, top: int) -> float:
    """Sum, over the choices of `k` whose most frequent answers have `top` votes, of those answers' mean value."""
    most = k // top
    ways = np.zeros((k + 1, most + 1))  # by samples chosen and number of answers with `top` votes
    worth = np.zeros((k + 1, most + 1))  # the same, times the sum of those answers' values
    for count in range(min(silent, k) + 1):
        ways[count, 0] = math.comb(silent, count)
    for group in groups:
        value = sum(group) / len(group)
        new_ways, new_worth = np.zeros_like(ways), np.zeros_like(worth)
        for count in range(min(len(group), k, top) + 1):
            choose, rows = math.comb(len(group), count), k + 1 - count
            if count < top:
                new_ways[count:] += choose * ways[:rows]
                new_worth[count:] += choose * worth[:rows]
            else:
                new_ways[count:, 1:] += choose * ways[:rows, :-1]
                new_worth[count:, 1:] += choose * (worth[:rows, :-1] + value * ways[:rows, :-1])
        ways, worth = new_ways, new_worth
    return float(sum(worth[k, tied] / tied for tied in range(1, most + 1)))


def _check_k(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"cannot choose {k} of {n} samples")


# -------------------------------------------------------------------------------------------------------------- helpers


def _vector(values: ArrayLike) -> Vector:
    x = np.asarray(values, dtype=np.float64)
    if not x.size:
        raise ValueError("there are no values")
    return x


def _binary(x: Vector) -> bool:
    return bool(np.isin(x, (0.0, 1.0)).all())


def _codes(clusters: Sequence[str], n: int) -> Codes:
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster names for {n} values")
    return np.unique(np.asarray(clusters), return_inverse=True)[1]


def _stderr(x: Vector, names: Codes | None) -> float:
    """Standard error of the mean; with clusters, of sums that vary together. Infinite for one value."""
    n = len(x)
    if n < 2:
        return math.inf
    if names is None:
        return float(x.std(ddof=1)) / math.sqrt(n)
    sums = np.bincount(names, x - x.mean())
    # G/(G-1) is to clusters what n/(n-1) is to items: with one item in each, both formulas agree.
    return math.sqrt(float((sums**2).sum()) * len(sums) / max(1, len(sums) - 1)) / n
