"""The store's own rows: JSON lines of examples or pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from burnish.types import Example, PreferencePair, as_row, example_from_row, pair_from_row


def write_rows(path: Path, rows: Iterable[Example | PreferencePair]) -> int:
    """Write rows and return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(as_row(row), ensure_ascii=False, default=str) + "\n")  # times are text then
            count += 1
    return count


def read_rows(path: Path) -> list[Example | PreferencePair]:
    """Inverse of `write_rows`."""
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [pair_from_row(row) if "prompt" in row else example_from_row(row) for row in rows]


def read_examples(path: Path) -> list[Example]:
    """The examples of a file of the store."""
    return [row for row in read_rows(path) if isinstance(row, Example)]


def read_pairs(path: Path) -> list[PreferencePair]:
    """The pairs of a file of the store."""
    return [row for row in read_rows(path) if isinstance(row, PreferencePair)]
