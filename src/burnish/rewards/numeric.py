"""The final number of a worked answer.

Source: the `#### N` convention of GSM8K, arXiv:2110.14168, and its exact match on that number. Differs: an answer
without the mark is read too, from 'answer is' or else as its last number, because chat models rarely write `####`.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from burnish.config import Config
from burnish.rewards.parts import broken, final_number, plain, unread, verdict
from burnish.types import Example, Score


class Numeric(Config):
    """1.0 when the final number equals the target's final number."""

    tolerance: float = Field(default=0.0, ge=0)
    """Largest absolute difference that still counts as equal, in the target's unit."""

    def grade(self, example: Example, text: str) -> Score:
        expected = final_number(example.target or "")
        if expected is None:
            return broken(f"the target {example.target!r} holds no number")
        found = final_number(text)
        if found is None:
            return unread("no number in the answer")
        return verdict(abs(found - expected) <= Decimal(str(self.tolerance)), plain(found), plain(expected))
