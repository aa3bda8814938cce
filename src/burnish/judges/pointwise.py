"""A judge that rates one answer at a time on a scale of whole numbers.

Source: single-answer grading of MT-Bench, arXiv:2306.05685 section 3.1. Differs: any engine may judge; a reply without
a number on the scale is unscored, where MT-Bench's script drops it as -1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from burnish.config import Config
from burnish.types import Example, Message, Sampling, Score

if TYPE_CHECKING:
    from burnish.engines.base import Engine

PROMPT = """Rate how well the answer serves the request, on a scale from 1 (useless) to {scale} (excellent).
Judge correctness first, then whether it follows the instructions, then clarity. Length alone is no merit.

Request:
{request}

Answer:
{answer}

Reply with the rating alone, written as [[number]]."""

RATING = re.compile(r"\[\[\s*(\d+)\s*\]\]|^\s*(\d+)\s*$")


class Pointwise(Config):
    """Rates each answer alone; the score is the rating mapped to 0..1."""

    scale: int = Field(default=10, ge=2)
    """Highest rating; the lowest is 1."""
    max_tokens: int = Field(default=32, ge=1)
    """Room for the judge's reply."""

    def score(self, engine: Engine, prompts: Sequence[Example], texts: Sequence[Sequence[str]]) -> list[list[Score]]:
        """Scores of every text of every prompt; a reply without a rating leaves its answer unscored and says why."""
        asked = [
            (Message("user", PROMPT.format(scale=self.scale, request=_transcript(prompt), answer=text)),)
            for prompt, group in zip(prompts, texts, strict=True)
            for text in group
        ]
        replies = iter(engine.generate(asked, Sampling(self.max_tokens)))
        return [[self.read(next(replies)[0].text) for _ in group] for group in texts]

    def read(self, reply: str) -> Score:
        """The rating in a judge's reply."""
        match = RATING.search(reply)
        if match is None:
            return Score(None, error=f"no rating in the judge's reply: {reply[:80]!r}")
        rating = int(match[1] or match[2])
        if not 1 <= rating <= self.scale:
            return Score(None, error=f"rating {rating} is off the scale 1..{self.scale}")
        return Score((rating - 1) / (self.scale - 1), str(rating), why=f"rated {rating} of {self.scale}")


def _transcript(prompt: Example) -> str:
    if len(prompt.prompt) == 1:
        return prompt.prompt[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt.prompt)
