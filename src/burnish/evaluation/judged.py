"""Judges for answers that no rule can grade: a model together with how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from burnish.errors import EngineError
from burnish.judges import JUDGES
from burnish.judges.reward import RewardModel
from burnish.types import Example, Score


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
        return [score for (score,) in how.score(self.engine, examples, [[text] for text in texts])]
