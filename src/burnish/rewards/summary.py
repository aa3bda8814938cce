"""A summary of exactly one sentence."""

from __future__ import annotations

import re

from pydantic import Field

from burnish.config import Config
from burnish.rewards.parts import tidy, unread
from burnish.types import Example, Score

SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")


class Summary(Config):
    """1.0 for exactly one sentence that names every key fact and is not too long."""

    facts: list[str] = Field(min_length=1)
    """Words or phrases that must occur, as whole words; capital letters make no difference."""
    max_words: int = Field(default=30, ge=1)
    """Longest summary allowed, in words."""

    def grade(self, example: Example, text: str) -> Score:
        text = text.strip()
        if not text:
            return unread("the answer is empty")
        answer = tidy(text, ignore_case=True)
        why = "; ".join(self._faults(text, answer))
        return Score(0.0 if why else 1.0, answer, why)

    def _faults(self, text: str, answer: str) -> list[str]:
        faults = []
        sentences = len(SENTENCE_END.findall(text))
        if sentences != 1 or text[-1] not in ".!?" or "\n" in text:
            faults.append(f"not exactly one sentence on one line ({sentences} ends)")
        if len(text.split()) > self.max_words:
            faults.append(f"{len(text.split())} words, at most {self.max_words} allowed")
        missing = [fact for fact in self.facts if not re.search(rf"\b{re.escape(fact.lower())}\b", answer)]
        if missing:
            faults.append("missing: " + ", ".join(missing))
        return faults
