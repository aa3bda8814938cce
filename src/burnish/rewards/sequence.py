"""A list of items, separated by commas."""

from __future__ import annotations

from burnish.config import Config
from burnish.rewards.parts import broken, items_of, marked_answer, unread, verdict
from burnish.types import Example, Score


class Sequence(Config):
    """1.0 when the items after 'Answer:' (or else of the last line) are the target's."""

    ordered: bool = True
    """Whether the order counts. Either way an item counts as often as it occurs."""
    ignore_case: bool = True
    """Whether capital letters make no difference."""

    def grade(self, example: Example, text: str) -> Score:
        expected = self._read(example.target or "")
        if not expected:
            return broken(f"the target {example.target!r} lists nothing")
        found = self._read(text)
        return verdict(found == expected, ", ".join(found), ", ".join(expected)) if found else unread("no list")

    def _read(self, text: str) -> list[str]:
        marked = marked_answer(text)
        lines = [line for line in text.splitlines() if line.strip()]
        line = marked if marked is not None else lines[-1] if lines else ""
        found = items_of(line, ignore_case=self.ignore_case)
        return found if self.ordered else sorted(found)
