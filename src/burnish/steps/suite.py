"""Freeze the items that models will be measured on, before anything trains."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Table
from burnish.data.io import write_rows
from burnish.errors import BurnishError, Problem
from burnish.evaluation.tasks import TASKS, freeze, outside, written_out
from burnish.steps.base import Expectation, Inputs, Phase, Running, Step, View
from burnish.types import Example


class Suite(Step):
    """Evaluation items under one name. Their content is hashed; a change of one item makes another suite."""

    kind: ClassVar[str] = "suite"
    phase: ClassVar[Phase] = "evaluation"

    use: Literal["suite"]
    tasks: Annotated[list[Any], Table("burnish.evaluation.tasks:TASKS")] = Field(min_length=1)
    """Tasks: [pebble-arithmetic, {gsm8k: {path: test.jsonl, n: 200}}, {jsonl: {path: mine.jsonl}}, ./mine.yaml]."""
    seed: int = 0
    """Which items are drawn, where a task draws them. Independent of the recipe's seed."""
    looks: int | None = Field(default=None, ge=1)
    """Makes the suite held-out: how many scores of trained models it may ever give in one store."""

    def own_seed(self, recipe_seed: int, name: str) -> int:
        return self.seed  # runs with other seeds are measured on the same items

    def outside(self) -> list[str]:
        return outside(self.tasks)

    def content(self) -> dict[str, Any]:
        tasks = [written_out(choice) for choice in self.tasks]
        return {"tasks": tasks, "seed": self.seed}  # how often it may be looked at changes no item

    def check(self, view: View) -> Iterator[Problem]:
        for count, choice in enumerate(self.tasks):
            try:
                TASKS.build(choice).check()
            except BurnishError as error:
                where = f"{error.where}: " if error.where else ""
                yield Problem(where + error.what, f"tasks.{count}", error.hint)

    @cached_property
    def _items(self) -> list[Example]:
        return freeze(self.tasks, self.seed)

    def sample(self, view: View) -> Sequence[Example]:
        return self._items

    def expect(self, view: View) -> Expectation:
        return Expectation(rows=float(len(self._items)), seconds=1.0)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        items = self._items
        write_rows(run.folder / "items.jsonl", items)
        tasks = Counter(str(item.meta["task"]) for item in items)
        return {"rows": len(items), "tasks": dict(tasks), "items": _asked(items),
                "headline": f"{len(items)} items of {len(tasks)} tasks frozen"}  # fmt: skip


def _asked(items: Sequence[Example]) -> str:
    """A hash of what is asked and what is right, whatever the tasks and items are called."""
    asked = sorted(
        json.dumps([[asdict(turn) for turn in item.prompt], item.target, item.choices, item.meta.get("turns")],
                   sort_keys=True, default=str) for item in items
    )  # fmt: skip
    return hashlib.blake2b("\n".join(asked).encode(), digest_size=16).hexdigest()
