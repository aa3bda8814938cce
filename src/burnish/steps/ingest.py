"""Read conversations or preference pairs from files, or make them from a seeded generator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from burnish.config import Table
from burnish.data.card import card, card_markdown
from burnish.data.formats import FORMATS
from burnish.data.generators import GENERATORS
from burnish.data.hub import hub_files, on_hub
from burnish.data.ingest import Ingested, ingest
from burnish.data.io import write_rows
from burnish.data.sources import expected_rows
from burnish.errors import BurnishError, DataError, Problem
from burnish.registry import suggest
from burnish.steps.base import Expectation, Holds, Inputs, Phase, Running, Step, View
from burnish.types import Example, PreferencePair
from burnish.workspace import file_digest

HEAD = 200
"""Rows that a plan looks at."""
SHOWN = 4
"""Columns that are named in the step's line."""


class Ingest(Step):
    """Read rows, turn every known format into one, and put what cannot be used into a quarantine file."""

    kind: ClassVar[str] = "dataset"
    phase: ClassVar[Phase] = "data"

    use: Literal["ingest"]
    source: Annotated[str | list[str] | dict[str, Any], Table("burnish.data.generators:GENERATORS", "mapping")] = Field(
        alias="from"
    )
    """Files, folders or patterns (JSONL, JSON, CSV, Parquet, each also .gz), a data set of the Hub (owner/name), or a
    generator: {pebble: {n: 1000}}."""
    split: str = "train"
    """Which split of a Hub data set."""
    format: str = "auto"
    """Shape of the rows; `auto` looks at the first good row of each file."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first rows, for a trial."""
    max_quarantined: float = Field(default=0.05, ge=0, le=1)
    """Stop when a larger share of the rows cannot be used: it is then more likely that the format is wrong."""

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        names = ["auto", *(row.name for row in FORMATS)]
        if value not in names:
            raise ValueError(f"there is no format '{value}', {suggest(value, names)}")
        return value

    @cached_property
    def _head(self) -> Ingested:
        if isinstance(self.source, dict):
            return Ingested(list(islice(GENERATORS.build(self.source).rows(seed=0, limit=8), 8)))
        return ingest(self._files, self.format, limit=HEAD)

    @cached_property
    def _files(self) -> list[Path]:
        patterns = [self.source] if isinstance(self.source, str) else list(self.source)
        files: list[Path] = []
        for pattern in patterns:
            if on_hub(pattern):
                found = hub_files(pattern, self.split)
            else:
                found = _matches(pattern) if any(mark in pattern for mark in "*?[") else [Path(pattern)]
            if not found:
                raise DataError(f"no file matches {pattern}", hint="paths are relative to the current folder")
            files.extend(found)
        return files

    def content(self) -> dict[str, Any]:
        return {"from": self.source if isinstance(self.source, dict) else None, "format": self.format,
                "limit": self.limit, "max_quarantined": self.max_quarantined}  # fmt: skip

    def outside(self) -> list[str]:
        return [] if isinstance(self.source, dict) else [file_digest(path) for path in self._files]

    def check(self, view: View) -> Iterator[Problem]:
        try:
            head = self._head
        except BurnishError as error:
            yield Problem(error.what, "from", error.hint or error.where)
            return
        if not head.rows:
            first = head.quarantine[0]
            yield Problem(f"none of the first {HEAD} rows can be used; the first: {first.why}", "from",
                          first.hint or "`burnish show data FILE` shows the reasons")  # fmt: skip
            return
        seen = len(head.rows) + len(head.quarantine)
        if len(head.quarantine) > self.max_quarantined * seen and self.limit is None:
            first = head.quarantine[0]
            yield Problem(f"{len(head.quarantine)} of the first {seen} rows cannot be used; the first: {first.why}"
                          f" ({first.where})", "from", self._mend(first.hint))  # fmt: skip

    @staticmethod
    def _mend(hint: str) -> str:
        return f"{hint or 'set `format:`, mend the rows'}, or allow a larger share with `max_quarantined:`"

    def holds(self, view: View) -> Holds | None:
        try:
            return "pairs" if any(isinstance(row, PreferencePair) for row in self._head.rows) else "examples"
        except BurnishError:
            return None  # `check` reports the error

    def sample(self, view: View) -> Sequence[Example | PreferencePair]:
        return self._head.rows

    def expect(self, view: View) -> Expectation:
        if isinstance(self.source, dict):
            rows = float(GENERATORS.build(self.source).n)
        else:
            head = self._head.rows
            each = sum(len(str(row)) for row in head) / max(1, len(head))
            rows = sum(expected_rows(path, each) for path in self._files)
        rows = min(rows, self.limit or rows)
        return Expectation(rows=rows, seconds=rows / (view.speed("ingest") or 5000), memory_gib=rows * 4e-6)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        if isinstance(self.source, dict):
            found = Ingested(list(GENERATORS.build(self.source).rows(seed=run.seed, limit=self.limit)))
        else:
            found = ingest(self._files, self.format, limit=self.limit)
        self._refuse_if_broken(found)
        write_rows(run.folder / "rows.jsonl", found.rows)
        with (run.folder / "quarantine.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in found.quarantine)
        facts = card(found.rows) | {"columns_not_read": dict(found.unread.most_common())}
        (run.folder / "card.md").write_text(card_markdown(facts), encoding="utf-8")
        total = len(found.rows) + len(found.quarantine)
        return {
            "rows_in": total,
            "rows": len(found.rows),
            "dropped": {"quarantined": len(found.quarantine)} if found.quarantine else {},
            "card": facts,
            "work": total,
            "headline": _headline(found),
        }

    def _refuse_if_broken(self, found: Ingested) -> None:
        total = len(found.rows) + len(found.quarantine)
        if found.quarantine and len(found.quarantine) > self.max_quarantined * total:
            first = found.quarantine[0]
            raise DataError(
                f"{len(found.quarantine)} of {total} rows cannot be used; the first: {first.why}",
                where=first.where,
                hint=self._mend(first.hint),
            )


def _headline(found: Ingested) -> str:
    said = f"{len(found.rows)} of {len(found.rows) + len(found.quarantine)} rows"
    if found.quarantine:
        said += f", {len(found.quarantine)} in quarantine.jsonl"
    if found.unread:
        names = [name for name, _ in found.unread.most_common()]
        said += f"; columns not read: {', '.join(names[:SHOWN])}"
        said += f" and {len(names) - SHOWN} more, see card.md" if len(names) > SHOWN else ""
    return said


def _matches(pattern: str) -> list[Path]:
    anchor = Path(pattern).anchor
    return sorted(Path(anchor or ".").glob(pattern.removeprefix(anchor)))
