"""Drop rows by a list of filters, and certify what is left as clean of the frozen suites."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Table
from burnish.data.card import card, card_markdown
from burnish.data.filters import FILTERS, apply
from burnish.data.io import read_rows, write_rows
from burnish.errors import Problem
from burnish.registry import distinct, split_choice, suggest
from burnish.steps.base import SUITE, DatasetRef, Expectation, Holds, Inputs, Phase, Running, Step, View
from burnish.types import Example, PreferencePair

DECONTAMINATE = "decontaminate"


class Filter(Step):
    """Keep the rows that pass every filter; each dropped row is kept in a file with the reason."""

    kind: ClassVar[str] = "dataset"
    phase: ClassVar[Phase] = "data"

    use: Literal["filter"]
    data: DatasetRef
    """The rows to look at."""
    filters: Annotated[list[Any], Table("burnish.data.filters:FILTERS")] = Field(alias="with", min_length=1)
    """Filters in the order they apply: [exact, {minhash: {threshold: 0.8}}, {decontaminate: {against: [dev]}}]."""

    def _against(self) -> list[str]:
        found: list[str] = []
        for choice in self.filters:
            name, settings = split_choice(choice, "filter")
            if name == DECONTAMINATE:
                found += [suite for suite in settings.get("against", []) if suite not in found]
        return found

    def references(self, name: str) -> dict[str, list[str]]:
        return {**super().references(name), "against": [SUITE + suite for suite in self._against()]}

    def content(self) -> dict[str, Any]:
        return {"with": self.filters}

    def check(self, view: View) -> Iterator[Problem]:
        for suite in self._against():
            if suite not in view.suites:
                yield Problem(f"there is no suite '{suite}'", "with", suggest(suite, list(view.suites)))

    def certifies(self, view: View) -> frozenset[str]:
        return super().certifies(view) | frozenset(self._against())

    def holds(self, view: View) -> Holds | None:
        return view.holds(self.data)

    def sample(self, view: View) -> Sequence[Example | PreferencePair]:
        return view.sample(self.data)

    def expect(self, view: View) -> Expectation:
        before = view.expect(self.data)
        seconds = before.rows / (view.speed("filter") or 1500) if before.rows is not None else None
        return Expectation(before.rows, seconds, before.memory_gib, before.disk_mib)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        rows = read_rows(inputs.artifact("data").file("rows.jsonl"))
        suites = inputs.artifacts("against")
        against: dict[str, Sequence[Example]] = {
            name: [row for row in read_rows(suite.file("items.jsonl")) if isinstance(row, Example)]
            for name, suite in zip(self._against(), suites, strict=True)
        }
        results = apply([FILTERS.build(choice) for choice in self.filters], rows, against)
        kept = results[-1].kept
        names = distinct([split_choice(choice, "filter")[0] for choice in self.filters])
        reports = {}
        with (run.folder / "dropped.jsonl").open("w", encoding="utf-8") as stream:
            for name, result in zip(names, results, strict=True):
                reports[name] = {"dropped": len(result.dropped), **result.report}
                for drop in result.dropped:
                    row = {"filter": name, "id": drop.example.id, "why": drop.why, "match": drop.match_id,
                           "score": drop.score}  # fmt: skip
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        write_rows(run.folder / "rows.jsonl", kept)
        (run.folder / "card.md").write_text(card_markdown(card(kept)), encoding="utf-8")
        dropped = Counter({name: len(result.dropped) for name, result in zip(names, results, strict=True)})
        return {
            "rows_in": len(rows),
            "rows": len(kept),
            "dropped": {name: count for name, count in dropped.items() if count},
            "filters": reports,
            "card": card(kept),
            "certified": sorted({*inputs.artifact("data").manifest.certified, *(suite.id for suite in suites)}),
            "work": len(rows),
            "headline": f"kept {len(kept)} of {len(rows)} rows"
            + "".join(f", {name} dropped {count}" for name, count in dropped.items() if count),
        }
