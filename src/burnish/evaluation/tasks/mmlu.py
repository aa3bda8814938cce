"""MMLU: multiple choice questions in 57 subjects, the letter by log-probability after five solved examples.

Source: arXiv:2009.03300 and its wording of the prompt. Rows: `question`, `subject`, `choices` (four), `answer` (0-3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from burnish.errors import EvaluationError
from burnish.evaluation.tasks.base import QUESTION, Task, draw, field, rows
from burnish.registry import suggest
from burnish.types import Example, Message

LETTERS = ("A", "B", "C", "D")


class MMLU(Task):
    """Questions of school and university exams."""

    path: str
    """The test file, or a folder with `test.jsonl` and `dev.jsonl` in it."""
    dev: str | None = None
    """The file of solved examples; `dev.jsonl` beside the test file when left out."""
    shots: int = Field(default=5, ge=0, le=5)
    """Solved examples of the subject before each question."""
    subjects: list[str] = Field(default_factory=list)
    """Only these subjects: [astronomy, college_biology]. All when left out."""
    n: int | None = Field(default=None, ge=2)
    """How many questions, drawn by the suite's seed; all when left out."""

    def files(self) -> list[Path]:
        return [self._test(), *([self._dev()] if self.shots else [])]

    def _test(self) -> Path:
        path = Path(self.path)
        return path / "test.jsonl" if path.is_dir() else path

    def _dev(self) -> Path:
        return Path(self.dev) if self.dev else self._test().with_name("dev" + self._test().suffix)

    def items(self, seed: int) -> list[Example]:
        shown: dict[str, list[str]] = {}
        for where, row in rows(self._dev()) if self.shots else ():
            shown.setdefault(str(field(row, "subject", where)), []).append(_question(row, where) + _letter(row, where))
        found = [self._item(place, where, row, shown) for place, (where, row) in enumerate(rows(self._test()))]
        known = list(dict.fromkeys(item.meta["subject"] for item in found))
        for subject in self.subjects:
            if subject not in known:
                raise EvaluationError(f"there is no subject '{subject}'", where=self.path, hint=suggest(subject, known))
        kept = [item for item in found if not self.subjects or item.meta["subject"] in self.subjects]
        return draw(kept, self.n, seed, "mmlu")

    def _item(self, place: int, where: str, row: dict[str, Any], shown: dict[str, list[str]]) -> Example:
        subject = str(field(row, "subject", where))
        shots = shown.get(subject, [])[: self.shots]
        if len(shots) < self.shots:
            raise EvaluationError(f"subject '{subject}' has {len(shots)} of {self.shots} examples", where=where,
                                  hint=f"add them to {self._dev()}, or lower `shots`")  # fmt: skip
        opening = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}."
        prompt = "\n\n".join([opening, *shots, _question(row, where)])
        meta = {"subject": subject, "normalize": "sum", QUESTION: _question(row, where)}
        target = _letter(row, where).strip()
        return Example(f"{place + 1}", (Message("user", prompt),), target, None, LETTERS, "mmlu", meta)


def _question(row: dict[str, Any], where: str) -> str:
    choices = field(row, "choices", where)
    if not isinstance(choices, list) or len(choices) != len(LETTERS):
        raise EvaluationError(f"expected four choices, got {str(choices)[:60]!r}", where=where)
    options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    return "\n".join([str(field(row, "question", where)).strip(), *options, "Answer:"])


def _letter(row: dict[str, Any], where: str) -> str:
    answer = field(row, "answer", where)
    if not isinstance(answer, int) or answer not in range(len(LETTERS)):
        raise EvaluationError(f"the answer must be a number from 0 to 3, got {answer!r}", where=where)
    return f" {LETTERS[answer]}"
