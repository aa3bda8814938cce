"""A user's own questions and answers.

A row is a question with its right answer, with choices, with tests for a program, or with nothing more for a judge
model to go by; or several turns that are asked one after the other. `burnish eval new` writes the settings for a file.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any

from pydantic import Field, model_validator

from burnish.config import Table
from burnish.errors import EvaluationError
from burnish.evaluation.tasks.base import Task, draw, field, rows
from burnish.evaluation.turns import TURNS, graded_turns, turn
from burnish.registry import split_choice
from burnish.rewards import grade, is_judged
from burnish.types import ROLES, Example, Message

NEEDS_NO_ANSWER = ("judge", "code", "format", "summary")
"""Graders that work without a target."""
Grader = dict[str, dict[str, Any]]


class JsonLines(Task):
    """Rows of a question and its answer: {"prompt": "...", "answer": "..."} on each line."""

    path: str
    """The file: JSONL, JSON, CSV or Parquet, also .gz."""
    name: str | None = None
    """The task's name in results; the file's name when left out."""
    prompt: str = "prompt"
    """Key of the question: a text, or a list of messages that ends with the user. A list that ends with the assistant
    holds its answer itself."""
    template: str | None = None
    """The question made of keys in braces, "{passage}\\n\\nQuestion: {question}"; a row may be without {input?}.
    `prompt` is then not used."""
    turns: str | None = None
    """Key of a list of user turns, asked one after the other; the model's own answers stand between them."""
    answer: str = "answer"
    """Key of the right answer; with choices, its text, its number from 0, or its letter from A; with turns, a list with
    an answer (or null) for each, or the answer to the last. Judged rows and those with tests may have none."""
    choices: str | None = None
    """Key of the list of choices, which are then compared by log-probability instead of asking for an answer."""
    letters: bool = False
    """Show the choices as A., B., ... below the question and compare the letters, as MMLU does."""
    tests: str | None = None
    """Key of the tests of a program, for the grader `code`: Python text or a list of statements."""
    entry_point: str | None = None
    """Key of the name of the function that `check` in the tests is called with, as in HumanEval."""
    grader: Annotated[Any, Table("burnish.rewards:REWARDS")] = "exact"
    """How answers are graded: exact, {exact: {last_line: true}}, numeric, choice, regex (the answer is the pattern),
    code, judge."""
    system: str = ""
    """A system message before every question."""
    cluster: str | None = None
    """Key of what several rows share, such as a text: intervals then allow for their likeness."""
    n: int | None = Field(default=None, ge=2)
    """How many rows, drawn by the suite's seed; all when left out."""

    @model_validator(mode="after")
    def _agrees(self) -> JsonLines:
        name = split_choice(self.grader, "reward")[0]
        if name == "code" and self.tests is None:
            raise ValueError("the grader `code` needs `tests`, the key of each row's tests")
        if self.tests is not None and name not in ("exact", "code"):
            raise ValueError(f"`tests` are for the grader `code`, not for {name}")
        if self.choices and (self.turns or self.tests):
            raise ValueError("`choices` are compared in one turn; leave out `turns` and `tests`")
        if self.letters and not self.choices:
            raise ValueError("`letters` shows choices, and `choices` names no key")
        return self

    def files(self) -> list[Path]:
        return [Path(self.path)]

    def items(self, seed: int) -> list[Example]:
        found = [self.item(place, where, row) for place, (where, row) in enumerate(rows(Path(self.path)))]
        return draw(found, self.n, seed, self.title)

    @property
    def title(self) -> str:
        """The task's name in results."""
        return self.name or Path(self.path).name.partition(".")[0]

    def item(self, place: int, where: str, row: dict[str, Any]) -> Example:
        """The item of a row that stands at `where` (file:line). Raises EvaluationError when it cannot be used."""
        meta: dict[str, Any] = {"task": self.title}
        if self.cluster:
            meta["cluster"] = str(field(row, self.cluster, where))
        make = self._choice if self.choices else self._conversation if self.turns else self._question
        item = make(str(place + 1), where, row, meta)
        if fault := next(filter(None, map(_fault, graded_turns(item))), None):
            raise EvaluationError(fault, where=where)
        return item

    def _question(self, name: str, where: str, row: dict[str, Any], meta: dict[str, Any]) -> Example:
        messages, said = self._asked(row, where)
        grader = self._grader(row, where)
        target = said if said is not None else self._target(row.get(self.answer), row, grader, where)
        return Example(name, messages, target, grader, source=self.title, meta=meta)

    def _choice(self, name: str, where: str, row: dict[str, Any], meta: dict[str, Any]) -> Example:
        shown = field(row, str(self.choices), where)
        choices = _texts(shown.get("text") if isinstance(shown, dict) else shown, where)
        answer = field(row, self.answer, where)
        labels = [*map(str, shown["label"])] if isinstance(shown, dict) and shown.get("label") else []
        target = choices[labels.index(str(answer))] if str(answer) in labels else _pick(answer, choices, where)
        messages, _ = self._asked(row, where)
        if self.letters:
            letters = tuple(ascii_uppercase[: len(choices)])
            listed = [f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True)]
            text = "\n".join([messages[-1].content.rstrip(), *listed, "Answer:"])
            messages = (*messages[:-1], Message("user", text))
            target, choices, meta = letters[choices.index(target)], letters, {**meta, "normalize": "sum"}
        return Example(name, messages, target, None, choices, self.title, meta)

    def _conversation(self, name: str, where: str, row: dict[str, Any], meta: dict[str, Any]) -> Example:
        texts = field(row, str(self.turns), where)
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and one.strip() for one in texts):
            raise EvaluationError(f"'{self.turns}' must be a list of texts, got {str(texts)[:60]!r}", where=where)
        grader = self._grader(row, where)
        targets = self._turn_targets(row, len(texts), grader, where)
        judged = is_judged(grader)
        graders = [grader if judged or target is not None else None for target in targets]
        if self.tests is not None:
            graders = [None] * (len(texts) - 1) + [grader]
        later = [turn(*one) for one in zip(texts[1:], targets[1:], graders[1:], strict=True)]
        opening = (Message("system", self.system),) if self.system else ()
        return Example(name, (*opening, Message("user", texts[0])), targets[0], graders[0], source=self.title,
                       meta={**meta, TURNS: later})  # fmt: skip

    def _turn_targets(self, row: dict[str, Any], count: int, grader: Grader, where: str) -> list[str | None]:
        answer = row.get(self.answer)
        if not isinstance(answer, list):
            return [None] * (count - 1) + [self._target(answer, row, grader, where)]
        if len(answer) != count:
            raise EvaluationError(f"{count} turns and {len(answer)} answers", where=where,
                                  hint="null stands for a turn that has none")  # fmt: skip
        if not is_judged(grader) and all(one is None for one in answer):
            raise EvaluationError("no turn has an answer", where=where)
        return [None if one is None else self._target(one, row, grader, where) for one in answer]

    def _target(self, answer: Any, row: dict[str, Any], grader: Grader, where: str) -> str | None:
        """The right answer as text; None where there is none and none is needed."""
        if isinstance(answer, list | dict):
            kind = type(answer).__name__
            raise EvaluationError(f"the answer is a {kind}, not a text: {str(answer)[:60]}", where=where,
                                  hint="name another key with `answer`, or make rows of one answer")  # fmt: skip
        if answer is None and not set(grader).intersection(NEEDS_NO_ANSWER):
            field(row, self.answer, where)
            raise EvaluationError(f"'{self.answer}' is empty", where=where)
        return None if answer is None else str(answer)

    def _grader(self, row: dict[str, Any], where: str) -> Grader:
        name, settings = split_choice(self.grader, "reward")
        if self.tests is None:
            return {name: settings}
        tests = field(row, self.tests, where)
        text = "\n".join(map(str, tests)) if isinstance(tests, list) else str(tests)
        if self.entry_point:
            text += f"\n\ncheck({field(row, self.entry_point, where)})\n"
        return {"code": {**settings, "tests": text}}

    def _asked(self, row: dict[str, Any], where: str) -> tuple[tuple[Message, ...], str | None]:
        """The messages before the answer, and the answer where the conversation itself ends with it."""
        if self.template is not None:
            prompt: Any = filled(self.template, row, where)
        else:
            prompt = field(row, self.prompt, where)
        if isinstance(prompt, str) and prompt.strip():
            turns: tuple[Message, ...] = (Message("user", prompt),)
        elif isinstance(prompt, list) and prompt and all(_is_message(turn) for turn in prompt):
            turns = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
        else:
            raise EvaluationError(f"'{self.prompt}' is no question: {str(prompt)[:60]!r}", where=where,
                                  hint='a text, or [{"role": "user", "content": "..."}]')  # fmt: skip
        said = None
        if turns[-1].role == "assistant" and self.answer not in row and not self.choices:
            *before, last = turns
            turns, said = tuple(before), last.content
        if not turns or turns[-1].role != "user":
            raise EvaluationError("the question does not end with the user", where=where)
        return ((Message("system", self.system), *turns) if self.system else turns), said


def _fault(turn: Example) -> str | None:
    """Why nothing could be graded by a row's target and grader. Graders of a user's own are not tried."""
    if is_judged(turn.grader) or ".py:" in next(iter(turn.grader or {}), ""):
        return None
    try:
        return grade(turn, "").error
    except EvaluationError as error:
        return error.what


def filled(template: str, row: dict[str, Any], where: str) -> str:
    """A template with the row's values in the place of the keys in braces; other braces stay as they are.

    A list is written one element a line. Raises EvaluationError for a key that the row does not have and that no
    question mark follows.
    """

    def value(match: re.Match[str]) -> str:
        held = row.get(match[1]) if match[2] else field(row, match[1], where)
        return "\n".join(map(str, held)) if isinstance(held, list) else "" if held is None else str(held)

    return re.sub(r"\{(\w+)(\??)\}", value, template).strip()


def _is_message(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str)


def _texts(choices: Any, where: str) -> tuple[str, ...]:
    if not isinstance(choices, list) or len(choices) < 2 or len(set(map(str, choices))) != len(choices):
        raise EvaluationError(f"choices must be a list of different answers, got {str(choices)[:60]!r}", where=where)
    if len(choices) > len(ascii_uppercase):
        raise EvaluationError(f"{len(choices)} choices, at most {len(ascii_uppercase)} have a letter", where=where)
    return tuple(map(str, choices))


def _pick(answer: Any, choices: tuple[str, ...], where: str) -> str:
    """The right choice from its text, its number or its letter."""
    if str(answer) in choices:
        return str(answer)
    if isinstance(answer, str) and len(answer) == 1 and answer.upper() in ascii_uppercase:
        answer = ascii_uppercase.index(answer.upper())
    elif isinstance(answer, str) and answer.isascii() and answer.isdigit():
        answer = int(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return choices[answer]
    raise EvaluationError(f"the answer {answer!r} is none of the choices {list(choices)}", where=where)
