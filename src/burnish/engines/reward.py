"""A reward model: it says nothing, it scores."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.engines.base import Usage
from burnish.models.load import LanguageModel, load_model
from burnish.models.scores import score_answers
from burnish.types import Message


class RewardEngine:
    """A loaded reward model with an account of what it read."""

    def __init__(self, lm: LanguageModel, *, name: str | None = None) -> None:
        self.lm, self.name, self.usage = lm, name or lm.source.ref, Usage()

    @property
    def template_hash(self) -> str:
        return self.lm.chat.hash

    def rewards(self, rows: Sequence[tuple[Sequence[Message], str]]) -> list[float | str]:
        """The reward of each (conversation, answer), or why there is none."""
        self.usage.calls += len(rows)
        return score_answers(self.lm, rows)


def open_reward(ref: str, *, dtype: str = "auto", device: str = "auto") -> RewardEngine:
    """Load a reward model. Raises ModelError when it is none."""
    return RewardEngine(load_model(ref, dtype=dtype, device=device, gives="scores"), name=ref)
