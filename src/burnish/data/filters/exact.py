"""Drop rows that say the same as an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.config import Config
from burnish.data.filters.parts import Dropped, FilterResult, Row, folded, messages_of
from burnish.types import Example


class Exact(Config):
    """Keep the first of rows whose turns are the same but for case, spacing and sentence marks."""

    def keep(self, rows: Sequence[Row], against: Mapping[str, Sequence[Example]]) -> FilterResult:
        """Split the rows into first ones and repeats."""
        first: dict[str, str] = {}
        kept: list[Row] = []
        dropped: list[Dropped] = []
        for row in rows:
            before = first.setdefault("\n".join(map(folded, messages_of(row))), row.id)
            if before == row.id:
                kept.append(row)
            else:
                dropped.append(Dropped(row, "says the same as an earlier row", before, 1.0))
        return FilterResult(kept, dropped)
