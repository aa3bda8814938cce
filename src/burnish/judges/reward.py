"""A trained reward model as a judge: a number for each answer, no prompt to fool and no order to sway it.

Source: reward models from comparisons, arXiv:2009.01325; the chance that one answer is preferred to another is
sigmoid(r_1 - r_2), the model they were trained under (Bradley and Terry).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from burnish.config import Config
from burnish.types import Example, Score, Verdict

if TYPE_CHECKING:
    from burnish.engines.base import Engine


class RewardModel(Config):
    """Scores answers with a model that `use: reward` trained, or another of one output."""

    def score(self, engine: Engine, prompts: Sequence[Example], texts: Sequence[Sequence[str]]) -> list[list[Score]]:
        """sigmoid of each answer's reward, which keeps their order."""
        rewards = iter(_rewards(engine, prompts, texts))
        return [[_score(next(rewards)) for _ in group] for group in texts]

    def compare(self, engine: Engine, prompts: Sequence[Example], firsts: Sequence[str], seconds: Sequence[str]
                ) -> list[Verdict]:  # fmt: skip
        """How likely the first of two answers to each prompt is preferred."""
        rewards = _rewards(engine, prompts, list(zip(firsts, seconds, strict=True)))
        return [_verdict(one, two) for one, two in zip(rewards[::2], rewards[1::2], strict=True)]


def _rewards(engine: Any, prompts: Sequence[Example], texts: Sequence[Sequence[str]]) -> list[float | str]:
    from burnish.engines.reward import RewardEngine
    from burnish.errors import EngineError

    if not isinstance(engine, RewardEngine):
        raise EngineError(f"{engine.name} gives text and no scores", hint="name a reward model, or judge with pairwise")
    return engine.rewards([(prompt.prompt, text) for prompt, group in zip(prompts, texts, strict=True)
                           for text in group])  # fmt: skip


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def _verdict(first: float | str, second: float | str) -> Verdict:
    for reward in (first, second):
        if isinstance(reward, str):
            return Verdict(None, error=reward)
    chance = _sigmoid(float(first) - float(second))
    return Verdict(chance, (chance, chance))


def _score(reward: float | str) -> Score:
    if isinstance(reward, str):
        return Score(None, error=reward)
    return Score(_sigmoid(reward), f"{reward:.3f}", why=f"reward {reward:+.2f}")
