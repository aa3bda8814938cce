"""Ratings of models from votes on pairs of their answers, with the uncertainty that the votes leave.

Davidson's model: with strengths r and a tie parameter v, a vote on models i and j is a win of i, a win of j or a tie
in the proportions exp(r_i/2 - r_j/2) : exp(r_j/2 - r_i/2) : v. Without ties it is Bradley and Terry's. A weak normal
prior on the strengths keeps a model finite that never lost, and fixes their mean at zero. Votes enter as counts for
each pair, so a fit takes the same time for a thousand votes and for a million.

Source: Bradley and Terry 1952, doi:10.2307/2334029; Davidson 1970, doi:10.1080/01621459.1970.10481082. Ratings are
shown on Elo's scale: 400 points are odds of ten to one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from burnish.errors import EvaluationError
from burnish.evaluation.stats import Estimate, Z
from burnish.rng import seed_for

Vector = NDArray[np.float64]
Codes = NDArray[np.int64]
SCALE = 400 / math.log(10)
"""Points of one unit of strength."""
CENTER = 1000.0
PRIOR = 3.0
"""Standard deviation of the strengths before any vote: 520 points. A hundred votes outweigh it."""
ROUNDS = 200
NEWTON = 100
CLOSE = 1e-9
QUICK, QUICK_CLOSE = 12, 1e-5
"""Steps and precision of a refit in a bootstrap round, a thousandth of a point."""

FEW = 10
"""Voters from which on intervals can tell how much voters differ."""


@dataclass(frozen=True)
class Battles:
    """Votes on pairs of models."""

    models: tuple[str, ...]
    first: Codes
    """(N,) number of the model on the left."""
    second: Codes
    """(N,)"""
    outcome: Vector
    """(N,) 1 when the first wins, 0 when the second does, 0.5 for a tie."""
    clusters: Codes | None = None
    """(N,) number of who voted: one voter's votes go together."""
    features: Vector | None = None
    """(N, F) differences of style, first minus second, each with standard deviation 1."""
    feature_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """What the votes say. Ratings in points, `CENTER` on average."""

    models: tuple[str, ...]
    ratings: Vector
    """(M,)"""
    stderr: Vector
    """(M,) by the sandwich formula, whole voters at a time where votes have voters."""
    low: Vector
    """(M,) 2.5 % points of the bootstrap over voters."""
    high: Vector
    ranks: Codes
    """(M,) best rank in line with the votes: 1 + the number of models that are surely better."""
    worst_ranks: Codes
    """(M,) worst rank in line with them. All ranks hold together at 95 %."""
    covariance: Vector
    """(M, M) of the strengths, in natural units (see SCALE)."""
    counts: Codes
    """(M,) votes on each model."""
    ties: float
    """Davidson's v: how readily voters call a tie."""
    groups: tuple[tuple[str, ...], ...]
    """Models that votes connect. Ratings of different groups are only compared by the prior."""
    style: dict[str, tuple[float, float]]
    """Of each feature of style, how much one standard deviation moves a vote (in points), and its standard error."""


def known_voters(rows: Iterable[tuple[str, str, float, str]]) -> tuple[list[tuple[str, str, float, str]], int]:
    """Rows as `battles` takes them, and how many voters there are. Where these are fewer than FEW, every vote stands
    alone: one voter's votes agree with each other, which says nothing about other people."""
    kept = list(rows)
    voters = len({voter for *_, voter in kept})
    return (kept if voters >= FEW else [(*vote[:3], "") for vote in kept]), voters


def battles(rows: Iterable[tuple[str, str, float, str]]) -> Battles:
    """Battles from (first, second, outcome, voter); an empty voter stands alone.

    Raises EvaluationError for a model against itself, for an outcome that is not 0, 0.5 or 1, and for no votes.
    """
    kept = list(rows)
    if not kept:
        raise EvaluationError("there are no votes to rank by", hint="`burnish arena` collects some")
    left, right, outcomes, voters = zip(*kept, strict=True)
    names, codes = np.unique(np.array([*left, *right], dtype=object).astype(str), return_inverse=True)
    first, second = codes[: len(kept)], codes[len(kept) :]
    if (same := first == second).any():
        raise EvaluationError(f"a vote compares '{left[int(same.argmax())]}' with itself", hint="remove the vote")
    outcome = np.array(outcomes, dtype=np.float64)
    if (odd := ~np.isin(outcome, (0.0, 0.5, 1.0))).any():
        raise EvaluationError(f"an outcome is 1, 0.5 or 0, got {outcomes[int(odd.argmax())]!r}")
    clusters = None
    if any(voters):
        named = [voter or f"alone {number}" for number, voter in enumerate(voters)]
        clusters = np.unique(np.array(named), return_inverse=True)[1].astype(np.int64)
    return Battles(tuple(names.tolist()), first.astype(np.int64), second.astype(np.int64), outcome, clusters)


# ------------------------------------------------------------------------------------------------------------ the table


@dataclass(frozen=True)
class _Table:
    """Votes counted where they are alike: R rows, each a pair of models (or, with features, one vote)."""

    design: sparse.csr_matrix  # (R, K) what the gap of a row is made of: +1 and -1 for its models, then features
    row: Codes  # (N,) of each vote
    kind: Codes  # (N,) 0: the row's first model wins, 1: its second, 2: tie

    @property
    def cells(self) -> Codes:
        """(N,) which of the R x 3 outcomes each vote is."""
        return self.row * 3 + self.kind

    def counts(self, weights: Vector | None = None) -> Vector:
        """(R, 3), each vote counted once or by weight."""
        rows = self.design.shape[0]
        return np.bincount(self.cells, weights, minlength=3 * rows).reshape(-1, 3).astype(np.float64)


def _tabled(votes: Battles) -> _Table:
    models = len(votes.models)
    if votes.features is None:
        swap = votes.first > votes.second
        low, high = np.where(swap, votes.second, votes.first), np.where(swap, votes.first, votes.second)
        keys, row = np.unique(low * models + high, return_inverse=True)
        left, right = keys // models, keys % models
    else:
        swap, row = np.zeros(len(votes.first), dtype=bool), np.arange(len(votes.first))
        left, right = votes.first, votes.second
    kind = np.where(votes.outcome == 0.5, 2, np.where((votes.outcome == 1) != swap, 0, 1))
    number = np.arange(len(left))
    signs = np.concatenate([np.ones(len(left)), -np.ones(len(left))])
    design = sparse.csr_matrix((signs, (np.tile(number, 2), np.concatenate([left, right]))), (len(left), models))
    if votes.features is not None:
        design = sparse.hstack([design, sparse.csr_matrix(votes.features)], format="csr")
    return _Table(design, row.astype(np.int64), kind.astype(np.int64))


def _chances(gap: Vector, log_ties: float) -> tuple[Vector, Vector, Vector]:
    """Chances that the first wins, that the second wins, and of a tie, for differences of strength of any shape."""
    top = np.maximum(np.abs(gap) / 2, log_ties)
    first, second, tie = np.exp(gap / 2 - top), np.exp(-gap / 2 - top), np.exp(log_ties - top)
    total = first + second + tie
    return first / total, second / total, tie / total


# -------------------------------------------------------------------------------------------------------------- fitting

Fit = tuple[Vector, float]
"""Strengths and weights of features (K,), and the log of the tie parameter; minus infinity where no vote is a tie."""


def _fit(table: _Table, counts: Vector, start: Fit, center: Vector | float = 0.0) -> Fit:
    """The parameters of greatest posterior probability, by Newton's method with halved steps.

    The log-likelihood is concave, because a row's outcomes are log-linear in the parameters: there is one maximum.
    `center` is the mean of the prior.
    """
    at, log_ties = start
    value = _objective(table, counts, at, log_ties, center)
    for _ in range(NEWTON):
        gradient = _gradient(table, counts, at, log_ties, center)
        step = np.linalg.solve(_curvature(table, counts, at, log_ties), gradient)
        if float(np.abs(step).max()) < CLOSE:
            break
        size = 1.0
        while size > 1e-8:
            moved, moved_ties = at + size * step[:-1], log_ties + size * step[-1]
            new = _objective(table, counts, moved, moved_ties, center)
            if new >= value - 1e-12 * abs(value):
                break
            size /= 2
        at, log_ties, value = moved, moved_ties, new
    return at, log_ties


def _objective(table: _Table, counts: Vector, at: Vector, log_ties: float, center: Vector | float) -> float:
    logs = [np.log(np.maximum(chance, 1e-300)) for chance in _chances(table.design @ at, log_ties)]
    likelihood = sum(float(counts[:, kind] @ log) for kind, log in enumerate(logs))
    return likelihood - float(((at - center) ** 2).sum()) / (2 * PRIOR**2)


def _refit(table: _Table, counts: Vector, best: Fit, inverse: Vector, center: Vector) -> Vector:
    """Strengths of counts near those that `best` fits: its inverse curvature serves for all steps."""
    at, log_ties = best
    for _ in range(QUICK):
        step = inverse @ _gradient(table, counts, at, log_ties, center)
        at, log_ties = at + step[:-1], log_ties + step[-1]
        if float(np.abs(step).max()) < QUICK_CLOSE:
            return at
    return _fit(table, counts, best, center)[0]


def _gradient(table: _Table, counts: Vector, at: Vector, log_ties: float, center: Vector | float) -> Vector:
    """Of the log posterior (K + 1,); last the tie parameter."""
    first, second, tie = _chances(table.design @ at, log_ties)
    total = counts.sum(1)
    # With s = (+1/2, -1/2, 0) for the three outcomes, d log p / d gap = s - E[s].
    push = (counts[:, 0] - counts[:, 1] - total * (first - second)) / 2
    return np.append(table.design.T @ push - (at - center) / PRIOR**2, (counts[:, 2] - total * tie).sum())


def _curvature(table: _Table, counts: Vector, at: Vector, log_ties: float) -> Vector:
    """The negative curvature of the log posterior (K + 1, K + 1); last the tie parameter."""
    size, design = len(at), table.design
    first, second, tie = _chances(design @ at, log_ties)
    total, mean = counts.sum(1), (first - second) / 2
    curvature = np.empty((size + 1, size + 1))
    weighted = design.multiply((total * ((first + second) / 4 - mean**2))[:, None])
    curvature[:size, :size] = (design.T @ weighted).toarray() + np.eye(size) / PRIOR**2
    curvature[size, :size] = curvature[:size, size] = design.T @ (
        -total * tie * mean
    )  # s and being a tie vary together
    curvature[size, size] = max(float((total * tie * (1 - tie)).sum()), 1e-9)
    return curvature


# ------------------------------------------------------------------------------------------------------------ inference


def rank(votes: Battles, *, rounds: int = ROUNDS, seed: int = 0) -> Ranking:
    """Ratings with intervals and ranks, the best model first.

    Intervals come from a bootstrap over voters (over votes that have none), in which the prior's centre is drawn again
    too: so a model that never lost has a wide interval and not one of width zero. With features of style, where every
    round would be a fit over single votes, they come from the sandwich covariance instead. Ranks use all differences at
    once: a model is surely better than another when their difference exceeds the largest deviation that 95 % of the
    rounds stay under (max-t, as in Mogstad et al. 2024, doi:10.1093/restud/rdad006).
    """
    table = _tabled(votes)
    counts = table.counts()
    models, size = len(votes.models), table.design.shape[1]
    ties = 0.0 if bool((counts[:, 2] > 0).any()) else -math.inf
    best, log_ties = _fit(table, counts, (np.zeros(size), ties))
    inverse = np.asarray(np.linalg.inv(_curvature(table, counts, best, log_ties)), dtype=np.float64)
    covariance = _sandwich(votes, table, counts, best, log_ties, inverse)
    rng = np.random.default_rng(seed_for(seed, "ranking"))
    if votes.features is None:
        resampled = _resampled(votes, table, counts, rounds, rng)
        centers = rng.normal(scale=PRIOR, size=(rounds, size))
        draws = np.stack([_refit(table, drawn, (best, log_ties), inverse, center)
                          for drawn, center in zip(resampled, centers, strict=True)])  # fmt: skip
    else:
        draws = rng.multivariate_normal(best, covariance, size=max(rounds, 1000), method="cholesky")
    return _ranking(votes, table, best, covariance, draws[:, :models], math.exp(log_ties))


def _sandwich(votes: Battles, table: _Table, counts: Vector, at: Vector, log_ties: float, inverse: Vector) -> Vector:
    """Covariance (K, K): the inverse curvature around the spread of the scores of voters and of the prior's own score.

    Source: White 1980, doi:10.2307/1912934; by voters as in Liang and Zeger 1986, doi:10.1093/biomet/73.1.13.
    """
    size = len(at)
    first, second, tie = _chances(table.design @ at, log_ties)
    push = np.array([0.5, -0.5, 0.0]) - ((first - second) / 2)[:, None]  # (R, 3) score of an outcome
    called = np.array([0.0, 0.0, 1.0]) - tie[:, None]
    scores = sparse.hstack([table.design[np.repeat(np.arange(len(tie)), 3)].multiply(push.reshape(-1, 1)),
                            sparse.csr_matrix(called.reshape(-1, 1))], format="csr")  # (R x 3, K + 1)  # fmt: skip
    if votes.clusters is None:  # equal votes have equal scores
        spread, groups = (scores.T @ scores.multiply(counts.reshape(-1, 1))).toarray(), int(counts.sum())
    else:
        summed = _held(votes.clusters, table) @ scores
        spread, groups = (summed.T @ summed).toarray(), summed.shape[0]
    spread *= groups / max(1, groups - 1)
    spread[range(size), range(size)] += 1 / PRIOR**2
    covariance: Vector = (inverse @ spread @ inverse)[:size, :size]
    return covariance


def _held(clusters: Codes, table: _Table) -> sparse.csr_matrix:
    """(voters, R x 3) how many votes of each kind each voter gave."""
    shape = (int(clusters.max()) + 1, 3 * table.design.shape[0])
    return sparse.csr_matrix((np.ones(len(clusters)), (clusters, table.cells)), shape=shape)


def _resampled(
    votes: Battles, table: _Table, counts: Vector, rounds: int, rng: np.random.Generator
) -> Iterator[Vector]:
    """Counts (R, 3) of votes drawn again with replacement, whole voters at a time where there are voters."""
    if votes.clusters is None:
        total = int(counts.sum())
        for _ in range(rounds):
            yield rng.multinomial(total, counts.ravel() / total).reshape(-1, 3).astype(np.float64)
        return
    held = _held(votes.clusters, table)
    voters = held.shape[0]
    for _ in range(rounds):
        drawn = np.bincount(rng.integers(voters, size=voters), minlength=voters).astype(np.float64)
        yield (drawn @ held).reshape(-1, 3)


def _ranking(votes: Battles, table: _Table, best: Vector, covariance: Vector, draws: Vector, ties: float) -> Ranking:
    models = len(votes.models)
    strengths, within = best[:models], covariance[:models, :models]
    surely = strengths[:, None] - strengths[None, :] > _reach(draws, strengths, within)
    centered = draws - draws.mean(1, keepdims=True)
    low, high = np.quantile(centered, [0.025, 0.975], axis=0)
    counts = np.bincount(votes.first, minlength=models) + np.bincount(votes.second, minlength=models)
    order = np.argsort(-strengths, kind="stable")
    spread = np.sqrt(np.diag(covariance)[models:])
    style = {name: (SCALE * float(value), SCALE * float(error))
             for name, value, error in zip(votes.feature_names, best[models:], spread, strict=True)}  # fmt: skip
    return Ranking(
        models=tuple(votes.models[k] for k in order),
        ratings=CENTER + SCALE * (strengths - strengths.mean())[order],
        stderr=SCALE * _centered_stderr(within)[order],
        low=CENTER + SCALE * low[order], high=CENTER + SCALE * high[order],
        ranks=1 + surely.sum(0)[order], worst_ranks=models - surely.sum(1)[order],
        covariance=within[np.ix_(order, order)], counts=counts[order], ties=ties, groups=_groups(votes), style=style,
    )  # fmt: skip


def _centered_stderr(covariance: Vector) -> Vector:
    """Standard errors of the strengths minus their mean."""
    center = np.eye(len(covariance)) - 1 / len(covariance)
    return np.sqrt(np.maximum(np.diag(center @ covariance @ center), 0.0))


def _reach(draws: Vector, strengths: Vector, covariance: Vector) -> Vector:
    """(M, M) how large a difference must be to be sure of its sign, all pairs at once."""
    scale = np.sqrt(np.maximum(_variances(covariance), 1e-18))
    np.fill_diagonal(scale, np.inf)
    gaps = strengths[:, None] - strengths[None, :]
    largest = [float((np.abs((one[:, None] - one[None, :]) - gaps) / scale).max()) for one in draws]
    return scale * float(np.quantile(largest, 0.95))


def _variances(covariance: Vector) -> Vector:
    """(M, M) variance of each difference of two strengths."""
    own = np.diag(covariance)
    return own[:, None] + own[None, :] - 2 * covariance


def _groups(votes: Battles) -> tuple[tuple[str, ...], ...]:
    """Models that are connected by votes, largest group first."""
    models = len(votes.models)
    graph = sparse.coo_matrix((np.ones(len(votes.first)), (votes.first, votes.second)), shape=(models, models))
    number, labels = connected_components(graph, directed=False)
    groups = [tuple(votes.models[k] for k in np.flatnonzero(labels == group)) for group in range(number)]
    return tuple(sorted(groups, key=lambda group: -len(group)))


def win_rate(ranking: Ranking, model: str, other: str) -> Estimate:
    """How often a model's answer is liked better than another's, ties half, with the interval that the votes leave.

    From the ratings, so that votes against third models count too; `n` is the number of votes on the model.
    """
    a, b = ranking.models.index(model), ranking.models.index(other)
    gap = (ranking.ratings[a] - ranking.ratings[b]) / SCALE
    reach = Z * math.sqrt(max(0.0, float(_variances(ranking.covariance)[a, b])))
    ties = math.log(max(ranking.ties, 1e-9))
    ends = [_chances(np.array(value), ties) for value in (gap - reach, gap, gap + reach)]
    low, mean, high = (float(first + tie / 2) for first, _, tie in ends)
    return Estimate(int(ranking.counts[a]), mean, (high - low) / (2 * Z), low, high)


def most_telling(ranking: Ranking, models: Sequence[str]) -> Vector:
    """(K, K) how much one more vote on each pair of `models` would teach about the strengths, in nats; diagonal 0.

    The information gain of one vote: half the log of 1 + its variance x the variance of the difference. Models
    without a vote are as uncertain as the prior. Source: Bayesian D-optimal design, Chaloner and Verdinelli 1995,
    doi:10.1214/ss/1177009939.
    """
    known = {name: k for k, name in enumerate(ranking.models)}
    places = [known.get(name, -1) for name in models]
    strengths = np.array([(ranking.ratings[k] - CENTER) / SCALE if k >= 0 else 0.0 for k in places])
    covariance = np.diag([PRIOR**2] * len(models)).astype(np.float64)
    inside = [k for k, place in enumerate(places) if place >= 0]
    rows = [places[k] for k in inside]
    covariance[np.ix_(inside, inside)] = ranking.covariance[np.ix_(rows, rows)]
    left, right, _ = _chances(strengths[:, None] - strengths[None, :], math.log(max(ranking.ties, 1e-9)))
    spread = (left + right) / 4 - ((left - right) / 2) ** 2
    gain = 0.5 * np.log1p(spread * np.maximum(_variances(covariance), 0.0))
    np.fill_diagonal(gain, 0.0)
    return gain
