"""A user's own questions and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from burnish.config import Table
from burnish.errors import EvaluationError
from burnish.evaluation.tasks.base import Task, draw, field, rows
from burnish.registry import split_choice
from burnish.types import ROLES, Example, Message


class JsonLines(Task):
    """Rows of a question and its answer: {"prompt": "...", "answer": "..."} on each line."""

    path: str
    """The file: JSONL, JSON, CSV or Parquet, also .gz."""
    name: str | None = None
    """The task's name in results; the file's name when left out."""
    prompt: str = "prompt"
    """Key of the question: a text, or a list of messages that ends with the user."""
    answer: str = "answer"
    """Key of the right answer; with choices, its text, its number from 0, or its letter from A."""
    choices: str | None = None
    """Key of the list of choices, which are then compared by log-probability instead of asking for an answer."""
    grader: Annotated[Any, Table("burnish.rewards:REWARDS")] = "exact"
    """How answers are graded: exact, {exact: {last_line: true}}, numeric, choice."""
    system: str = ""
    """A system message before every question."""
    cluster: str | None = None
    """Key of what several rows share, such as a text: intervals then allow for their likeness."""
    n: int | None = Field(default=None, ge=2)
    """How many rows, drawn by the suite's seed; all when left out."""

    def files(self) -> list[Path]:
        return [Path(self.path)]

    def items(self, seed: int) -> list[Example]:
        name = self.name or Path(self.path).name.partition(".")[0]
        found = [self._item(place, where, row, name) for place, (where, row) in enumerate(rows(Path(self.path)))]
        return draw(found, self.n, seed, name)

    def _item(self, place: int, where: str, row: dict[str, Any], name: str) -> Example:
        meta: dict[str, Any] = {"task": name}
        if self.cluster:
            meta["cluster"] = str(field(row, self.cluster, where))
        answer = field(row, self.answer, where)
        messages = self._messages(field(row, self.prompt, where), where)
        if self.choices:
            choices = _texts(field(row, self.choices, where), where)
            target = _pick(answer, choices, where)
            return Example(f"{place + 1}", messages, target, None, choices, name, meta)
        grader, settings = split_choice(self.grader, "reward")
        return Example(f"{place + 1}", messages, str(answer), {grader: settings}, source=name, meta=meta)

    def _messages(self, prompt: Any, where: str) -> tuple[Message, ...]:
        if isinstance(prompt, str) and prompt.strip():
            turns: tuple[Message, ...] = (Message("user", prompt),)
        elif isinstance(prompt, list) and prompt and all(_is_message(turn) for turn in prompt):
            turns = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
        else:
            raise EvaluationError(f"'{self.prompt}' is no question: {str(prompt)[:60]!r}", where=where,
                                  hint='a text, or [{"role": "user", "content": "..."}]')  # fmt: skip
        if turns[-1].role != "user":
            raise EvaluationError("the question does not end with the user", where=where)
        return (Message("system", self.system), *turns) if self.system else turns


def _is_message(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str)


def _texts(choices: Any, where: str) -> tuple[str, ...]:
    if not isinstance(choices, list) or len(choices) < 2 or len(set(map(str, choices))) != len(choices):
        raise EvaluationError(f"choices must be a list of different answers, got {str(choices)[:60]!r}", where=where)
    return tuple(map(str, choices))


def _pick(answer: Any, choices: tuple[str, ...], where: str) -> str:
    """The right choice from its text, its number or its letter."""
    if str(answer) in choices:
        return str(answer)
    letter = isinstance(answer, str) and len(answer) == 1 and answer.isalpha()
    place = ord(str(answer).upper()) - ord("A") if letter else answer
    if isinstance(place, int) and 0 <= place < len(choices):
        return choices[place]
    raise EvaluationError(f"the answer {answer!r} is none of the choices {list(choices)}", where=where)
