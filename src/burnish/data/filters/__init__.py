"""Filters: each keeps some rows and says of every other one why it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.data.filters.parts import FilterResult, Row
from burnish.registry import Entry, Registry
from burnish.types import Example

FILTERS = Registry(
    "filter",
    [
        Entry("length", "burnish.data.filters.length:Length", "drop rows whose answer is too short or too long"),
        Entry("exact", "burnish.data.filters.exact:Exact", "drop rows that say the same as an earlier one"),
        Entry("minhash", "burnish.data.filters.minhash:MinHash", "drop rows nearly the same as an earlier one",
              "Broder 1997"),
        Entry("decontaminate", "burnish.data.filters.decontaminate:Decontaminate",
              "drop rows that hold a suite's items", "arXiv:2411.15124 section 3.2"),
    ],
)  # fmt: skip


def apply(filters: Sequence[Any], rows: Sequence[Row], against: Mapping[str, Sequence[Example]]) -> list[FilterResult]:
    """The result of each filter, every one working on what the one before kept."""
    results: list[FilterResult] = []
    for one in filters:
        rows = results[-1].kept if results else rows
        results.append(one.keep(rows, against))
    return results
