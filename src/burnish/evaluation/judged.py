"""Judges for answers that no rule can grade: a model together with how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from burnish.engines.base import Prompt, Scored
from burnish.errors import EngineError
from burnish.judges import JUDGES
from burnish.judges.reward import RewardModel
from burnish.types import Completion, Example, Sampling, Score


class Rating(Protocol):
    """How a judge is asked, such as `judges.pointwise.Pointwise`."""

    def score(self, engine: Any, prompts: Sequence[Example], texts: Sequence[Sequence[str]]) -> list[list[Score]]:
        """Scores from 0 to 1 of every text of every prompt."""


@dataclass(frozen=True)
class Judge:
    """What scores judged items."""

    open: Callable[[], Any]
    """Opens the judge model: an engine, or a reward model. Called once, when there is something to judge."""
    how: Rating | None = None
    """How it is asked; `pointwise`, or `reward` for a reward model, when left out."""

    @cached_property
    def engine(self) -> Any:
        """The opened model."""
        return self.open()

    @property
    def opened(self) -> Any | None:
        """The model, if it was needed."""
        return vars(self).get("engine")

    def score(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """A score of each answer to its example, whose target is the reference answer, where there is one.

        Raises EngineError when a reward model is asked for words, or another model for rewards.
        """
        speaks = hasattr(self.engine, "generate")
        how: Rating = self.how or JUDGES.build("pointwise" if speaks else "reward")
        if not speaks and not isinstance(how, RewardModel):
            raise EngineError(f"{self.engine.name} is a reward model, which says nothing", hint="how: reward")
        return _scored(how, _Checked(self.engine) if speaks else self.engine, examples, texts)


def _scored(how: Rating, engine: Any, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
    """A score of each answer. What is too long for the judge is unscored alone, and does not end a run."""
    try:
        return [score for (score,) in how.score(engine, examples, [[text] for text in texts])]
    except _TooLongError as error:
        if len(examples) == 1:
            return [Score(None, error=f"too long for the judge: {error.what}")]
        half = len(examples) // 2  # nothing was asked yet, so halving costs only the counting of tokens
        return [*_scored(how, engine, examples[:half], texts[:half]),
                *_scored(how, engine, examples[half:], texts[half:])]  # fmt: skip


class _TooLongError(EngineError):
    """A judge has no room for a reply."""


class _Checked:
    """A judge model that says so when something is too long for it, before it is asked anything."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        self._check(self._engine.too_long(prompts))
        found: list[list[Completion]] = self._engine.generate(prompts, sampling, n)
        return found

    def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
        self._check(self._engine.too_long(prompts, options))
        found: list[list[Scored]] = self._engine.choices(prompts, options)
        return found

    def _check(self, too_long: dict[int, str]) -> None:
        for why in too_long.values():
            raise _TooLongError(why)
