"""The letter of a multiple choice answer."""

from __future__ import annotations

import re

from pydantic import Field

from burnish.config import Config
from burnish.rewards.parts import broken, marked_answer, unframed, unread, verdict
from burnish.types import Example, Score

WHY = "(?:because|since|as|for|due|which|and)\\b"
ALONE = re.compile(rf"(?<![A-Za-z'])(?![AI]\s+(?!{WHY})[a-z])([A-Z])(?![A-Za-z'])")
"""A letter by itself; 'A dog' and 'I think' are words, 'A because' is not."""
LISTED = re.compile(r"\W*([A-Za-z])[).:]")
"""A letter as lists are lettered: 'b) Paris', '(B) Paris'."""
BARE = re.compile(r"[\s(*_]*([A-Z])(?:[).:*_]|\s*(?:\n|$))|\s*\(?([a-z])\)")
"""A text that is a letter, or begins with one as lists do."""


class Choice(Config):
    """1.0 when the chosen letter is the target's: after 'Answer:' or 'answer is', or else a text that is a letter."""

    letters: str = Field(default="ABCDEFGHIJ", pattern=r"^[A-Z]+$")
    """The letters that can be chosen."""

    def grade(self, example: Example, text: str) -> Score:
        expected = (example.target or "").strip().strip("().").upper()
        if len(expected) != 1 or expected not in self.letters:
            return broken(f"the target {example.target!r} is not one of the letters {self.letters}")
        found = self._read(text)
        return verdict(found == expected, found, expected) if found else unread("no letter was chosen")

    def _read(self, text: str) -> str | None:
        marked = marked_answer(text)
        if marked is None:
            # Without a mark only a bare letter counts, 'B' or 'B) Paris': the A of 'A dog' is not a choice.
            bare = BARE.match(unframed(text))
            letter = (bare[1] or bare[2]).upper() if bare else ""
            return letter if letter and letter in self.letters else None
        if (listed := LISTED.match(marked)) and listed[1].upper() in self.letters:
            return listed[1].upper()
        found = ALONE.findall(marked.upper() if len(marked) <= 3 else marked)
        return next((str(letter) for letter in found if letter in self.letters), None)
