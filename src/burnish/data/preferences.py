"""Preference pairs from scored answers: the best is chosen, the worst rejected.

An unscored answer takes part in nothing and is counted; answers that score alike make no pair. Among answers with the
same score the choice is drawn by the prompt's id, so that neither position nor model order decides it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.rng import seed_for
from burnish.types import Example, PreferencePair, Score


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer to a prompt."""

    text: str
    model: str


@dataclass(frozen=True)
class Paired:
    """Pairs, and why the other prompts gave none: prompts = pairs + dropped."""

    pairs: list[PreferencePair]
    dropped: dict[str, int]
    unscored: int
    """Answers without a score."""
    longer_chosen: float
    """Share of pairs whose chosen answer has more characters than the rejected: a check for length bias."""


def pair_up(
    prompts: Sequence[Example], answers: Sequence[Sequence[Answer]], scores: Sequence[Sequence[Score]],
    min_margin: float,
) -> Paired:  # fmt: skip
    """Pair the best and the worst answer of each prompt, when their scores differ by `min_margin` or more."""
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    unscored = 0
    for prompt, given, graded in zip(prompts, answers, scores, strict=True):
        scored = [
            (score.value, seed_for(0, prompt.id, index), answer)
            for index, (answer, score) in enumerate(zip(given, graded, strict=True))
            if score.value is not None
        ]
        unscored += len(given) - len(scored)
        if len(scored) < 2:
            dropped["fewer than two scored answers"] += 1
            continue
        best, worst = max(scored, key=lambda row: row[:2]), min(scored, key=lambda row: row[:2])
        margin = best[0] - worst[0]
        if margin < min_margin or best[2].text == worst[2].text:
            dropped["all answers scored alike"] += 1
            continue
        meta = {**prompt.meta, "chosen_model": best[2].model, "rejected_model": worst[2].model}
        pairs.append(PreferencePair(f"{prompt.id}/pair", prompt.prompt, best[2].text, worst[2].text, margin,
                                    prompt.source, meta))  # fmt: skip
    longer = sum(len(pair.chosen) > len(pair.rejected) for pair in pairs)
    return Paired(pairs, dict(dropped), unscored, longer / len(pairs) if pairs else 0.0)
