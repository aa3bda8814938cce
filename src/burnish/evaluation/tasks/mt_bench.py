"""MT-Bench: open questions of two turns in eight categories, each answer rated by a judge model.

Source: arXiv:2306.05685 section 2.2; data: FastChat's `question.jsonl` (rows of `question_id`, `category` and `turns`)
and one file of `reference_answer/` (rows of `question_id` and `choices[0].turns`), which MT-Bench has for mathematics,
reasoning and coding. Differs: one temperature for all categories, that of the evaluation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from burnish.errors import EvaluationError
from burnish.evaluation.tasks.base import Task, draw, field, rows
from burnish.evaluation.turns import TURNS, turn
from burnish.registry import suggest
from burnish.types import Example, Message

JUDGED: dict[str, dict[str, Any]] = {"judge": {}}


class MTBench(Task):
    """Questions of two turns; the second builds on the model's own answer to the first."""

    path: str
    """FastChat's question.jsonl."""
    references: str | None = None
    """File of reference answers, which the judge is shown: FastChat's reference_answer/gpt-4.jsonl."""
    categories: list[str] = Field(default_factory=list)
    """Only these categories: [math, coding]. All when left out."""
    n: int | None = Field(default=None, ge=2)
    """How many questions, drawn by the suite's seed; all when left out."""

    def files(self) -> list[Path]:
        return [Path(self.path), *([Path(self.references)] if self.references else [])]

    def items(self, seed: int) -> list[Example]:
        references = dict(map(_reference, rows(Path(self.references)))) if self.references else {}
        found = [_item(where, row, references) for where, row in rows(Path(self.path))]
        known = list(dict.fromkeys(str(item.meta["category"]) for item in found))
        for category in self.categories:
            if category not in known:
                raise EvaluationError(
                    f"there is no category '{category}'", where=self.path, hint=suggest(category, known)
                )
        kept = [item for item in found if not self.categories or item.meta["category"] in self.categories]
        return draw(kept, self.n, seed, "mt-bench")


def _item(where: str, row: dict[str, Any], references: dict[str, list[str]]) -> Example:
    name, texts = str(field(row, "question_id", where)), _texts(field(row, "turns", where), where)
    gold = references.get(name, [])
    if gold and len(gold) != len(texts):
        raise EvaluationError(f"question {name} has {len(texts)} turns and {len(gold)} reference answers", where=where)
    targets: list[str | None] = [*gold] or [None] * len(texts)
    later = [turn(text, target, JUDGED) for text, target in zip(texts[1:], targets[1:], strict=True)]
    meta = {"category": str(field(row, "category", where)), TURNS: later}
    return Example(name, (Message("user", texts[0]),), targets[0], JUDGED, source="mt-bench", meta=meta)


def _reference(found: tuple[str, dict[str, Any]]) -> tuple[str, list[str]]:
    """(question, its reference answers turn by turn)."""
    where, row = found
    choices = field(row, "choices", where)
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EvaluationError(f"`choices` holds no answers: {str(choices)[:60]!r}", where=where)
    return str(field(row, "question_id", where)), _texts(field(choices[0], "turns", where), where)


def _texts(turns: Any, where: str) -> list[str]:
    if not isinstance(turns, list) or not turns or not all(isinstance(text, str) and text.strip() for text in turns):
        raise EvaluationError(f"`turns` must be a list of texts, got {str(turns)[:60]!r}", where=where)
    return turns
