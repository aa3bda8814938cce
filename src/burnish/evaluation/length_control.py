"""Win rates that long answers do not buy.

A judge prefers long answers. So the chance that a model's answer wins is modelled as

    p_i = sigmoid(w_length tanh(d_i / sd(d)) + w_hard h_i + w_model)

with d_i the baseline's length minus the model's in characters and h_i how hard instruction i is, and the win rate is
read off where both answers are equally long: the mean of sigmoid(w_hard h_i + w_model) over the instructions.

Source: Length-Controlled AlpacaEval, arXiv:2404.04475, and its L1-penalised fit. Differs: one penalty for all models
instead of one picked by cross-validation on each; instructions are matched by their text, so a missing row shifts
nothing; the standard error contains the noise of the fitted weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
STRENGTH = 21.54
"""Inverse strength of the penalty |w|_1 / STRENGTH: on the grid of the official fit, what most models chose."""
STEPS = 100
CLOSE = 1e-10


@dataclass(frozen=True)
class Anchor:
    """Answers that are known to differ from the baseline's in length alone: they tie down the weight of length.

    AlpacaEval's are the baseline model's own answers, asked to be verbose and asked to be concise. Rows have features
    (tanh of the length difference, hardness, 0). Their labels enter the likelihood by two sums only.
    """

    features: Vector
    """(G, 3)"""
    label_sums: Vector
    """(3,) sum over the rows of label times features."""
    weight: float = 0.1
    """How much a row counts beside a judged one."""


@dataclass(frozen=True, slots=True)
class Controlled:
    """A length-controlled win rate, in 0 to 1, and what it was read from."""

    win_rate: float
    stderr: float
    """Contains the noise of the weights and of which instructions there are."""
    length: float
    """Weight of the length difference; below zero when long answers are preferred, as d is baseline minus model."""
    hardness: float
    model: float


def length_feature(baseline: Vector, model: Vector) -> Vector:
    """tanh of the length difference in standard deviations; zeros when all differences are equal."""
    difference = baseline - model
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)


def controlled(labels: Vector, length: Vector, hardness: Vector | None, anchor: Anchor | None = None) -> Controlled:
    """The length-controlled win rate of one model.

    Args:
        labels: (N,) how sure the judge is that the model won, 0 to 1. length: (N,) from `length_feature`. hardness:
            (N,) of the instructions; without it all are taken as equally hard.
        anchor: needs hardness.
    Raises:
        ValueError: for no rows.
    """
    if not len(labels):
        raise ValueError("there are no judged answers")
    hard = np.zeros_like(length) if hardness is None else hardness
    x = np.stack([length, hard, np.ones_like(length)], axis=1)
    weights, curvature = _fit(x, labels, anchor)
    chance = _sigmoid(x[:, 1:] @ weights[1:])
    rate = float(chance.mean())
    # What one row moves the result by: through the weights, and by being in the mean (the delta method, sandwich form).
    slope = np.concatenate([[0.0], ((chance * (1 - chance))[:, None] * x[:, 1:]).mean(0)])
    scores = (labels - _sigmoid(x @ weights))[:, None] * x
    moved = scores @ np.linalg.pinv(curvature) @ slope + (chance - rate) / len(x)
    stderr = math.sqrt(float((moved**2).sum()) * len(x) / (len(x) - 1)) if len(x) > 1 else math.inf
    return Controlled(rate, stderr, *map(float, weights))


def _fit(x: Vector, labels: Vector, anchor: Anchor | None) -> tuple[Vector, Vector]:
    """Weights (3,) that minimise negative log-likelihood + |w|_1 / STRENGTH, and the likelihood's curvature (3, 3).

    Newton's method on the likelihood, the penalty handled exactly in each step's quadratic model (proximal Newton, Lee
    et al. 2014, arXiv:1206.1623), with halved steps while the objective does not fall.
    """
    weights = np.zeros(x.shape[1])
    value, gradient, curvature = _likelihood(weights, x, labels, anchor)
    for _ in range(STEPS):
        step = _penalised_step(weights, gradient, curvature) - weights
        if float(np.abs(step).max()) < CLOSE:
            break
        size, penalised = 1.0, value + float(np.abs(weights).sum()) / STRENGTH
        while size > 1e-6:
            moved = weights + size * step
            new_value, new_gradient, new_curvature = _likelihood(moved, x, labels, anchor)
            if new_value + float(np.abs(moved).sum()) / STRENGTH <= penalised:
                break
            size /= 2
        weights, value, gradient, curvature = moved, new_value, new_gradient, new_curvature
    return weights, curvature


def _likelihood(weights: Vector, x: Vector, labels: Vector, anchor: Anchor | None) -> tuple[float, Vector, Vector]:
    """Negative log-likelihood with its gradient and curvature."""
    logits = x @ weights
    chance = _sigmoid(logits)
    value = float(np.logaddexp(0, logits).sum() - labels @ logits)
    gradient = x.T @ (chance - labels)
    curvature = (x * (chance * (1 - chance))[:, None]).T @ x
    if anchor is not None:
        z = anchor.features @ weights
        known = _sigmoid(z)
        value += anchor.weight * float(np.logaddexp(0, z).sum() - anchor.label_sums @ weights)
        gradient = gradient + anchor.weight * (anchor.features.T @ known - anchor.label_sums)
        shaped = (anchor.features * (known * (1 - known))[:, None]).T @ anchor.features
        curvature = curvature + anchor.weight * shaped
    return value, gradient, curvature


def _penalised_step(weights: Vector, gradient: Vector, curvature: Vector) -> Vector:
    """Where the quadratic model plus |w|_1 / STRENGTH is smallest, one coordinate after the other."""
    at, pull = weights.copy(), 1 / STRENGTH
    for _ in range(STEPS):
        before = at.copy()
        for k in range(len(at)):
            if curvature[k, k] <= 0:
                continue
            slope = gradient[k] + curvature[k] @ (at - weights) - curvature[k, k] * at[k]
            at[k] = -np.sign(slope) * max(0.0, abs(slope) - pull) / curvature[k, k]
        if float(np.abs(at - before).max()) < CLOSE / 10:
            break
    return at


def _sigmoid(z: Vector) -> Vector:
    return 0.5 * (1 + np.tanh(z / 2))
