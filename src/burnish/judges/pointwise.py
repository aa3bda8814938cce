"""A judge that rates one answer at a time on a scale of whole numbers.

Source: single-answer grading of MT-Bench, arXiv:2306.05685 section 3.1; the expected rating from probabilities as in
G-Eval, arXiv:2303.16634. Differs: any engine may judge; a reply without a number on the scale is unscored, where
MT-Bench's script drops it as -1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from burnish.config import Config
from burnish.judges.parts import By, ask, by_logprob, of_scores, request, shares
from burnish.types import Completion, Example, Message, Sampling, Score, Verdict

if TYPE_CHECKING:
    from burnish.engines.base import Engine, Prompt, Scored

PROMPT = """Rate {what}, on a scale from 1 (useless) to {scale} (excellent).
{how}

{request}
Answer:
{answer}

Reply with the rating alone, written as [[number]]."""
WHOLE = (
    "how well the answer serves the request",
    "Judge correctness first, then whether it follows the instructions, then clarity. Length alone is no merit.",
)
ONE = ("the answer's {aspect} alone", "Leave everything else about it aside. Length alone is no merit.")
COMPARE = "Judge correctness by the reference answer; other words for the same are as good."

RATING = re.compile(r"\[\[\s*(\d+)\s*\]\]|^\s*(\d+)\s*$")


class Pointwise(Config):
    """Rates each answer alone; the score is the rating mapped to 0..1."""

    scale: int = Field(default=10, ge=2)
    """Highest rating; the lowest is 1."""
    aspects: list[str] = Field(default_factory=list)
    """Rate each of these apart, and take their mean: [correctness, clarity]. One rating of the whole when left out."""
    reference: bool = True
    """Show the item's reference answer, where it has one."""
    by: By = "text"
    """Read the rating from the reply (`text`) or take the mean of the scale under the model's probabilities
    (`logprob`), which tells answers apart that get the same number. `auto`: logprob where the engine gives it."""
    max_tokens: int = Field(default=32, ge=1)
    """Room for the judge's reply."""

    def score(self, engine: Engine, prompts: Sequence[Example], texts: Sequence[Sequence[str]]) -> list[list[Score]]:
        """Scores of every text of every prompt; a reply without a rating leaves its answer unscored and says why."""
        pairs = [(prompt, text) for prompt, group in zip(prompts, texts, strict=True) for text in group]
        aspects = self.aspects or [""]
        asked = [self._asked(prompt, text, aspect) for prompt, text in pairs for aspect in aspects]
        rated = iter(self._rated(engine, asked))
        found = iter([self._joined([next(rated) for _ in aspects]) for _ in pairs])
        return [[next(found) for _ in group] for group in texts]

    def compare(self, engine: Engine, prompts: Sequence[Example], firsts: Sequence[str], seconds: Sequence[str]
                ) -> list[Verdict]:  # fmt: skip
        """Which of two answers to each prompt got the higher rating."""
        scores = self.score(engine, prompts, list(zip(firsts, seconds, strict=True)))
        return [of_scores(first, second) for first, second in scores]

    def _asked(self, prompt: Example, text: str, aspect: str) -> Prompt:
        what, how = ONE if aspect else WHOLE
        if self.reference and prompt.target:
            how = f"{how} {COMPARE}"
        shown = PROMPT.format(what=what.format(aspect=aspect), how=how, scale=self.scale,
                              request=request(prompt, self.reference), answer=text)  # fmt: skip
        return (Message("user", shown),)

    def _rated(self, engine: Engine, asked: Sequence[Prompt]) -> list[Score]:
        ratings = [f"[[{rating}]]" for rating in range(1, self.scale + 1)]
        options = ratings if by_logprob(self.by, engine, ratings) else None
        return [self._read(reply) for reply in ask(engine, asked, options, Sampling(self.max_tokens))]

    def _read(self, reply: Completion | list[Scored] | str) -> Score:
        if isinstance(reply, str):
            return Score(None, error=reply)
        if isinstance(reply, Completion):
            return self.read(reply.text)
        rating = sum(chance * number for number, chance in enumerate(shares(reply), start=1))
        return self._scored(rating, f"{rating:.2f}")

    def read(self, reply: str) -> Score:
        """The rating in a judge's reply."""
        match = RATING.search(reply)
        if match is None:
            return Score(None, error=f"no rating in the judge's reply: {reply[:80]!r}")
        rating = int(match[1] or match[2])
        if not 1 <= rating <= self.scale:
            return Score(None, error=f"rating {rating} is off the scale 1..{self.scale}")
        return self._scored(rating, str(rating))

    def _scored(self, rating: float, shown: str) -> Score:
        return Score((rating - 1) / (self.scale - 1), shown, why=f"rated {shown} of {self.scale}")

    def _joined(self, scores: Sequence[Score]) -> Score:
        """The mean over the aspects; unscored when one of them is."""
        if not self.aspects:
            return scores[0]
        values = [score.value for score in scores if score.value is not None]
        if len(values) < len(scores):
            missing = next(place for place, score in enumerate(scores) if score.value is None)
            return Score(None, error=f"{self.aspects[missing]}: {scores[missing].error}")
        said = ", ".join(f"{aspect} {score.answer}" for aspect, score in zip(self.aspects, scores, strict=True))
        return Score(sum(values) / len(values), said, why=f"rated {said} of {self.scale}")
