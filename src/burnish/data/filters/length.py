"""Drop rows by the length of their answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from burnish.config import Config
from burnish.data.filters.parts import Dropped, FilterResult, Row, answer_of, messages_of
from burnish.types import Example


class Length(Config):
    """Keep rows whose answer and number of turns are within bounds."""

    min_words: int = Field(default=1, ge=0)
    """Fewest words of the last answer."""
    max_words: int | None = Field(default=None, ge=1)
    """Most words of the last answer; no limit when left out."""
    max_turns: int | None = Field(default=None, ge=1)
    """Most turns; no limit when left out."""

    def keep(self, rows: Sequence[Row], against: Mapping[str, Sequence[Example]]) -> FilterResult:
        """Split the rows by length."""
        kept: list[Row] = []
        dropped: list[Dropped] = []
        for row in rows:
            why = self._why_not(row)
            if why:
                dropped.append(Dropped(row, why))
            else:
                kept.append(row)
        return FilterResult(kept, dropped)

    def _why_not(self, row: Row) -> str:
        words, turns = len(answer_of(row).split()), len(messages_of(row))
        if words < self.min_words:
            return f"the answer has {words} words, fewer than {self.min_words}"
        if self.max_words is not None and words > self.max_words:
            return f"the answer has {words} words, more than {self.max_words}"
        if self.max_turns is not None and turns > self.max_turns:
            return f"{turns} turns, more than {self.max_turns}"
        return ""
