"""Preference pairs from scored answers: the best is chosen, the worst rejected.

An unscored answer takes part in nothing and is counted; answers that score alike make no pair. Among answers with the
same score the choice is drawn by the prompt's id, so that neither position nor model order decides it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from burnish.rng import seed_for
from burnish.types import Example, PreferencePair, Score


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer to a prompt."""

    text: str
    model: str


@dataclass(frozen=True)
class Paired:
    """Pairs, and why the other prompts gave none: prompts = paired + dropped."""

    pairs: list[PreferencePair]
    paired: int
    """Prompts that gave pairs."""
    dropped: dict[str, int]
    unscored: int
    """Answers without a score."""
    longer_chosen: float
    """Share of pairs whose chosen answer has more characters than the rejected: a check for length bias."""


def pair_up(
    prompts: Sequence[Example], answers: Sequence[Sequence[Answer]], scores: Sequence[Sequence[Score]], *,
    min_margin: float, per_prompt: int = 1, mean_score: tuple[float, float] = (-math.inf, math.inf),
) -> Paired:  # fmt: skip
    """Pair better answers with worse ones, those that differ most first.

    Args:
        min_margin: least difference of scores for a pair.
        per_prompt: most pairs of a prompt; 1 pairs the best with the worst.
        mean_score: prompts whose answers score less or more than this on average give no pairs.
    """
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    unscored = paired = 0
    for prompt, given, graded in zip(prompts, answers, scores, strict=True):
        scored = [(score.value, answer) for answer, score in zip(given, graded, strict=True) if score.value is not None]
        unscored += len(given) - len(scored)
        mean = sum(value for value, _ in scored) / max(1, len(scored))
        if len(scored) < 2:
            dropped["fewer than two scored answers"] += 1
        elif not (found := _pairs(prompt, scored, min_margin)):
            dropped["all answers scored alike"] += 1
        elif not mean_score[0] <= mean <= mean_score[1]:
            dropped["mean score out of bounds"] += 1
        else:
            paired += 1
            pairs += found[:per_prompt]
    longer = sum(len(pair.chosen) > len(pair.rejected) for pair in pairs)
    return Paired(pairs, paired, dict(dropped), unscored, longer / len(pairs) if pairs else 0.0)


def _pairs(prompt: Example, scored: Sequence[tuple[float, Answer]], min_margin: float) -> list[PreferencePair]:
    """All pairs of a prompt, the widest first; equal ones in an order drawn by the prompt's id.

    A noisy judge may score one text twice and differently: its score is then the mean, or a text could be chosen over
    another in one pair and rejected for it in the next.
    """
    alike: dict[str, list[int]] = {}
    for place, (_, answer) in enumerate(scored):
        alike.setdefault(answer.text, []).append(place)
    rated = [
        (places[0], fmean(scored[place][0] for place in places),
         scored[places[seed_for(0, prompt.id, text) % len(places)]][1])
        for text, places in alike.items()
    ]  # fmt: skip
    ranked = sorted(
        ((low - high, seed_for(0, prompt.id, i, j), better, worse) for i, high, better in rated
         for j, low, worse in rated if i != j and high - low >= min_margin),
        key=lambda rank: rank[:2],
    )  # fmt: skip
    return [
        PreferencePair(
            f"{prompt.id}/pair" + (f"-{place}" if place else ""), prompt.prompt, better.text, worse.text, -margin,
            prompt.source, {**prompt.meta, "chosen_model": better.model, "rejected_model": worse.model},
        )
        for place, (margin, _, better, worse) in enumerate(ranked)
    ]  # fmt: skip
