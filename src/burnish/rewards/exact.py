"""The answer's text, word for word."""

from __future__ import annotations

from burnish.config import Config
from burnish.rewards.parts import broken, marked_answer, tidy, unframed, unread, verdict
from burnish.types import Example, Score


class Exact(Config):
    """1.0 when the answer equals the target, spacing and surrounding punctuation aside."""

    ignore_case: bool = True
    """Whether capital letters make no difference."""
    last_line: bool = False
    """Read only what follows 'Answer:' (or `####`), or else the last line, instead of the whole text."""

    def grade(self, example: Example, text: str) -> Score:
        expected = self._read(example.target or "")
        if not expected:
            return broken(f"the target {example.target!r} is empty")
        found = self._read(text)
        return verdict(found == expected, found, expected) if found else unread("the answer is empty")

    def _read(self, text: str) -> str:
        if self.last_line:
            lines = [line for line in text.splitlines() if line.strip()]
            marked = marked_answer(text)
            text = marked if marked is not None else lines[-1] if lines else ""
        return tidy(unframed(text), ignore_case=self.ignore_case)
