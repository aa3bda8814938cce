"""GSM8K: grade-school word problems, graded by the final number.

Source: arXiv:2110.14168; data: openai/gsm8k, rows of `question` and `answer`, which ends in `#### number`.
Differs: the question is asked through the chat template, and an answer without `####` is read too (see `numeric`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from burnish.data.hub import hub_files, on_hub
from burnish.errors import ConfigError, EvaluationError
from burnish.evaluation.tasks.base import QUESTION, Task, draw, field, rows
from burnish.types import Example, Message


class GSM8K(Task):
    """Word problems of two to eight steps."""

    path: str = "openai/gsm8k"
    """GSM8K's own JSONL file, or the Hub id of the data set."""
    split: Literal["train", "test"] = "test"
    """Which part of the Hub's data set."""
    n: int | None = Field(default=None, ge=2)
    """How many problems, drawn by the suite's seed; all when left out."""
    shots: int = Field(default=0, ge=0)
    """Solved problems shown before each question, as earlier turns."""
    shots_from: str | None = None
    """File they come from, its first rows; the Hub's train split when `path` is a Hub id."""

    def check(self) -> None:
        if self.shots and self.shots_from is None and not on_hub(self.path):
            raise ConfigError("shots need a file to come from", hint="shots_from: gsm8k/train.jsonl")
        super().check()

    def files(self) -> list[Path]:
        return [*_files(self.path, self.split), *self._shot_files()]

    def _shot_files(self) -> list[Path]:
        return _files(self.shots_from or self.path, "train") if self.shots else []

    def items(self, seed: int) -> list[Example]:
        shots: list[Message] = []
        for path in self._shot_files():
            for where, row in rows(path):
                if len(shots) < 2 * self.shots:
                    question, answer = str(field(row, "question", where)), str(field(row, "answer", where))
                    shots += [Message("user", question), Message("assistant", answer)]
        if len(shots) < 2 * self.shots:
            raise EvaluationError(f"{self.shots} shots were asked for and the file has {len(shots) // 2} rows")
        problems = [problem for path in _files(self.path, self.split) for problem in rows(path)]
        found = [_item(place, where, row, shots) for place, (where, row) in enumerate(problems)]
        return draw(found, self.n, seed, "gsm8k")


def _item(place: int, where: str, row: dict[str, object], shots: list[Message]) -> Example:
    question, answer = str(field(row, "question", where)), str(field(row, "answer", where))
    _, mark, number = answer.rpartition("####")
    if not mark:
        raise EvaluationError("the answer has no final number after ####", where=where, hint="use GSM8K's own files")
    messages = (*shots, Message("user", question))
    meta = {"solution": answer, **({QUESTION: question} if shots else {})}
    return Example(f"{place + 1}", messages, number.strip(), {"numeric": {}}, source="gsm8k", meta=meta)


def _files(path: str, split: str) -> list[Path]:
    return hub_files(path, split) if on_hub(path) else [Path(path)]
