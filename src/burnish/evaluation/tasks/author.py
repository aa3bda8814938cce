"""Write a task for a file of a user's own: find its columns, propose how answers are graded, try every row.

A test with a broken row measures the row. So every row becomes an item, every right answer must be graded right by the
grader that models will face, and a wrong one wrong; what is not so is told with its line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.data.sources import Raw, read
from burnish.errors import BurnishError, ConfigError, Problem
from burnish.evaluation.stats import paired, wilson
from burnish.evaluation.tasks.jsonl import JsonLines
from burnish.evaluation.turns import graded_turns, later_turns
from burnish.registry import split_choice, suggest
from burnish.rewards import grade, grade_all, is_judged
from burnish.rewards.parts import NUMBER, final_number, plain
from burnish.types import Example

KINDS = {
    "choice": "options, compared by log-probability",
    "letter": "the letter of an option that the question shows",
    "numeric": "the final number of the answer",
    "exact": "the answer's text, on its last line or after 'Answer:'",
    "regex": "a pattern that the answer matches",
    "code": "a program that passes tests, in a sandbox",
    "judged": "rated by a judge model, with a reference answer where there is one",
    "multi-turn": "several turns, each behind the model's own answers",
}
PROMPTS = ("messages", "prompt", "question", "problem", "query", "instruction", "input", "ctx", "text", "task")
PASSAGES = ("passage", "context", "paragraph", "article", "document", "story")
ANSWERS = ("answer", "target", "output", "label", "expected", "gold", "solution", "reference", "response", "completion",
           "answerkey", "correct_answer", "canonical_solution", "code")  # fmt: skip
PATTERNS = ("pattern", "regex")
PROGRAMS = ("canonical_solution", "solution", "code", *ANSWERS)
CHOICES = ("choices", "options", "endings", "candidates")
TESTS = ("tests", "test", "test_list")
TURNS = ("turns",)
ENTRY_POINT = "entry_point"
MOST = 0.9
"""Share of rows that must be alike for a kind to be proposed."""
SHORT = 12
"""Words of an answer that can be compared word for word."""
SHOWN = 20
"""Problems that are shown; the rest is counted."""
CHANGING = 0.2
"""Share of items that two models answer differently well, for saying what a number of items can tell apart."""
NO_ANSWER = "I do not know."
NO_PROGRAM = "def nothing_at_all():\n    return None\n"


@dataclass(frozen=True)
class Given:
    """What the user says about the file; the rest is found."""

    kind: str | None = None
    prompt: str | None = None
    answer: str | None = None
    choices: str | None = None
    turns: str | None = None
    tests: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Tried:
    """An answer to the first item, and how it was graded."""

    text: str
    right: bool
    """Whether it must be graded right."""
    score: float | None
    why: str


@dataclass(frozen=True)
class Draft:
    """A task for a file, and what trying it showed."""

    kind: str
    why: str
    """Why this kind was proposed."""
    settings: dict[str, Any]
    """Of `jsonl`, the path aside."""
    items: list[Example]
    problems: list[Problem]
    tried: list[Tried] = field(default_factory=list)
    untried: int = 0
    """Rows without a right answer that could be tried."""
    rows: int = 0


def draft(path: Path, given: Given) -> Draft:
    """A task for a file. Raises ConfigError when it cannot be told what its columns are; problems of rows are kept."""
    raws = list(read(path))
    rows = [raw.value for raw in raws if raw.value is not None]
    if not rows:
        raise ConfigError(f"no row of {path} can be read; the first: {raws[0].error}", where=raws[0].where)
    kind, why, settings = _Proposal(rows, given).made()
    settings = {"name": given.name or re.sub(r"[^\w.-]", "-", path.name.partition(".")[0]), **settings}
    task = JsonLines(path=str(path), **settings)
    return _try(task, raws, Draft(kind, why, settings, [], [], rows=len(raws)))


# ------------------------------------------------------------------------------------------------------------ proposing


class _Proposal:
    """What a file's rows look like."""

    def __init__(self, rows: Sequence[dict[str, Any]], given: Given) -> None:
        self.rows, self.given = rows, given
        counts: dict[str, int] = {}
        for row in rows:
            for key, value in row.items():
                counts[key] = counts.get(key, 0) + (value is not None)
        self.columns = counts
        self.common = {key.lower(): key for key, count in counts.items() if count >= MOST * len(rows)}
        self.any = {key.lower(): key for key, count in counts.items() if count}

    def made(self) -> tuple[str, str, dict[str, Any]]:
        """(kind, why, settings of `jsonl`)."""
        given = self.given
        for key in (given.prompt, given.answer, given.choices, given.turns, given.tests):
            if key is not None and key not in self.columns:
                raise ConfigError(f"no row has a column '{key}'", hint=suggest(key, list(self.columns)))
        if given.kind is not None and given.kind not in KINDS:
            raise ConfigError(f"there is no kind '{given.kind}'", hint=suggest(given.kind, list(KINDS)))
        turns = given.turns or self._first(TURNS)
        if given.kind == "multi-turn" and turns is None:
            raise self._missing("the turns", "--turns")
        if turns is not None and given.kind in (None, "multi-turn", "judged"):
            return self._multi_turn(turns)
        question = self._question()
        kind, why = self._kind()
        settings = {**question, **getattr(self, f"_{kind}")(question)}
        return (
            kind,
            why,
            {key: value for key, value in settings.items() if key != "prompt" or "template" not in settings},
        )

    def _first(self, names: Sequence[str], among: dict[str, str] | None = None) -> str | None:
        """The first of the names that is a column."""
        found = self.common if among is None else among
        return next((found[name] for name in names if name in found), None)

    def _missing(self, what: str, option: str) -> ConfigError:
        return ConfigError(f"no column holds {what}", hint=f"name one with {option}: {', '.join(self.columns)}")

    def _question(self) -> dict[str, Any]:
        prompt = self.given.prompt or self._first(PROMPTS)
        if prompt is None:
            raise self._missing("the question", "--prompt")
        if self.given.prompt is None and not self._lists(prompt):
            passage, extra = self._first(PASSAGES), self.any.get("input")
            if passage is not None:
                return {"template": f"{{{passage}}}\n\n{{{prompt}}}"}
            if prompt.lower() == "instruction" and extra is not None:
                return {"template": f"{{{prompt}}}\n\n{{{extra}?}}"}
        return {"prompt": prompt}

    def _lists(self, key: str) -> bool:
        return all(isinstance(row.get(key), list) for row in self.rows if row.get(key) is not None)

    def _kind(self) -> tuple[str, str]:
        if self.given.kind is not None:
            return self.given.kind, "as asked"
        choices, tests = self.given.choices or self._first(CHOICES), self.given.tests or self._first(TESTS)
        if choices is not None:
            return "choice", f"its rows have '{choices}'"
        if tests is not None:
            return "code", f"its rows have '{tests}'"
        if pattern := self._first(PATTERNS):
            return "regex", f"its rows have a '{pattern}'"
        key = self.given.answer or self._first(ANSWERS)
        answers = self._answers(key)
        if not answers:
            return "judged", "its rows have no right answers"
        if _most(answers, _is_number):
            return "numeric", "its answers are numbers"
        if all(len(one) == 1 and "A" <= one <= "J" for one in answers):
            return "letter", "its answers are letters"
        if _most(answers, lambda one: len(one.split()) <= SHORT and "\n" not in one.strip()):
            return "exact", "its answers are short"
        return "judged", "its answers are too long to be compared word for word"

    def _answers(self, key: str | None) -> list[str]:
        if key is not None:
            return [str(row[key]).strip() for row in self.rows if row.get(key) is not None]
        prompt = self.given.prompt or self._first(PROMPTS)
        last = [row[prompt][-1] for row in self.rows if prompt and isinstance(row.get(prompt), list) and row[prompt]]
        return [str(one["content"]) for one in last if isinstance(one, dict) and one.get("role") == "assistant"]

    def _answer(self, names: Sequence[str], needed: bool = True) -> dict[str, Any]:
        key = self.given.answer or self._first(names) or (None if needed else self._first(names, self.any))
        if key is None and needed and not self._answers(None):
            raise self._missing("the right answer", "--answer")
        return {} if key is None else {"answer": key}

    # -- settings of each kind

    def _choice(self, question: dict[str, Any]) -> dict[str, Any]:
        choices = self.given.choices or self._first(CHOICES)
        if choices is None:
            raise self._missing("the choices", "--choices")
        settings = {**self._answer(ANSWERS), "choices": choices}
        prompt = question.get("prompt")
        if prompt is None or self._lists(prompt) or self._ends_as_it_should(prompt):
            return settings
        return {"template": f"Question: {{{prompt}}}\nAnswer:", **settings}

    def _ends_as_it_should(self, prompt: str) -> bool:
        """Whether the options continue the question's text: 'Answer:', 'The capital is'."""
        return _most([str(row.get(prompt, "")).strip() for row in self.rows], lambda text: text[-1:] not in ("?", "."))

    def _letter(self, question: dict[str, Any]) -> dict[str, Any]:
        return {**self._answer(ANSWERS), "grader": "choice"}

    def _numeric(self, question: dict[str, Any]) -> dict[str, Any]:
        return {**self._answer(ANSWERS), "grader": "numeric"}

    def _exact(self, question: dict[str, Any]) -> dict[str, Any]:
        return {**self._answer(ANSWERS), "grader": {"exact": {"last_line": True}}}

    def _regex(self, question: dict[str, Any]) -> dict[str, Any]:
        return {**self._answer((*PATTERNS, *ANSWERS)), "grader": "regex"}

    def _code(self, question: dict[str, Any]) -> dict[str, Any]:
        tests = self.given.tests or self._first(TESTS)
        if tests is None:
            raise self._missing("the tests", "--tests")
        entry = {"entry_point": ENTRY_POINT} if ENTRY_POINT in self.common else {}
        return {**self._answer(PROGRAMS, needed=False), "tests": tests, **entry, "grader": "code"}

    def _judged(self, question: dict[str, Any]) -> dict[str, Any]:
        return {**self._answer(ANSWERS, needed=False), "grader": "judge"}

    def _multi_turn(self, turns: str) -> tuple[str, str, dict[str, Any]]:
        why = f"its rows have '{turns}'"
        key = self.given.answer or self._first(ANSWERS, self.any)
        settings = {"turns": turns, **({"answer": key} if key else {})}
        held = [row[key] for row in self.rows if key and row.get(key) is not None]
        each = [one for value in held for one in (value if isinstance(value, list) else [value])]
        answers = [str(one) for one in each if one is not None]
        if not answers or self.given.kind == "judged":
            return "multi-turn", why, {**settings, "grader": "judge"}
        if _most(answers, _is_number):
            return "multi-turn", why, {**settings, "grader": "numeric"}
        if _most(answers, lambda one: len(one.split()) <= SHORT):
            return "multi-turn", why, {**settings, "grader": {"exact": {"last_line": True}}}
        return "multi-turn", why, {**settings, "grader": "judge"}


def _most(values: Sequence[str], test: Callable[[str], bool]) -> bool:
    return sum(map(test, values)) >= MOST * len(values)


def _is_number(text: str) -> bool:
    """Whether a text is a number, with its sign or unit mark, or ends in GSM8K's `#### number`."""
    return "####" in text or bool(NUMBER.fullmatch(text.strip().strip("$%").strip()))


# --------------------------------------------------------------------------------------------------------------- trying


def _try(task: JsonLines, raws: Sequence[Raw], found: Draft) -> Draft:
    """Make an item of every row and grade a right and a wrong answer to each."""
    problems: list[Problem] = []
    items: list[Example] = []
    places: list[str] = []
    for place, raw in enumerate(raws):
        if raw.value is None:
            problems.append(Problem(str(raw.error), raw.where))
            continue
        try:
            items.append(task.item(place, raw.where, raw.value))
            places.append(raw.where)
        except BurnishError as error:
            problems.append(Problem(error.what, error.where or raw.where, error.hint))
    problems += _duplicates(items, places)
    graded, tried, untried = _graded(items, places)
    problems += graded
    order = {raw.where: place for place, raw in enumerate(raws)}
    problems.sort(key=lambda problem: order.get(problem.where, 0))
    return replace(found, items=items, problems=problems, tried=tried, untried=untried)


def _duplicates(items: Sequence[Example], places: Sequence[str]) -> list[Problem]:
    seen: dict[str, str] = {}
    found = []
    for item, where in zip(items, places, strict=True):
        texts = [message.content for message in item.messages] + [later["text"] for later in later_turns(item)]
        key = "\n".join(" ".join(text.split()) for text in [*texts, *item.choices])
        if key in seen:
            found.append(Problem(f"the same question as {seen[key]}", where, "counted twice, it says nothing new"))
        seen.setdefault(key, where)
    return found


@dataclass(frozen=True)
class _Trial:
    """An answer to a row's question that must be graded right, or wrong."""

    row: int
    turn: Example
    text: str
    right: bool


def _graded(items: Sequence[Example], places: Sequence[str]
            ) -> tuple[list[Problem], list[Tried], int]:  # fmt: skip
    """Problems of right and wrong answers, how those to the first item were graded, and how many were not tried."""
    turns = [(row, turn) for row, item in enumerate(items) if not item.choices
             for turn in graded_turns(item) if not is_judged(turn.grader)]  # fmt: skip
    gold = [_Trial(row, turn, text, True) for row, turn in turns if (text := _right(turn)) is not None]
    trials = [*gold, *(_Trial(row, turn, _wrong(turn), False) for row, turn in turns)]
    scores = grade_all([trial.turn for trial in trials], [trial.text for trial in trials])
    problems, shown = [], []
    for trial, score in zip(trials, scores, strict=True):
        completed = _completed(trial.turn) if trial.right and score.value != 1.0 else None
        if completed is not None and (again := grade(trial.turn, completed)).value == 1.0:
            trial, score = replace(trial, text=completed), again
        if trial.row == 0:
            shown.append(Tried(trial.text, trial.right, score.value, score.why or score.error or ""))
        said = f"answer {_short(trial.text)!r} scores {score.value}"
        if trial.right and score.value != 1.0:
            problems.append(Problem(f"its own {said}: {score.why or score.error}", places[trial.row]))
        if not trial.right and score.value != 0.0:
            what = (
                "its tests let everything pass" if "code" in (trial.turn.grader or {}) else "its pattern fits too much"
            )
            problems.append(Problem(f"the wrong {said}", places[trial.row], what))
    return problems, shown, len(turns) - len(gold)


def _right(turn: Example) -> str | None:
    """An answer that must be graded right; None where the row has none, such as a pattern."""
    return None if "regex" in (turn.grader or {}) else turn.target


def _wrong(turn: Example) -> str:
    """An answer that must be graded wrong."""
    grader = turn.grader or {}
    if "code" in grader:
        return NO_PROGRAM
    if "numeric" in grader and (number := final_number(turn.target or "")) is not None:
        return plain(number + 1 + round(grader["numeric"].get("tolerance", 0)))
    if "choice" in grader:
        return "B" if (turn.target or "").strip("(). ").upper() == "A" else "A"
    return NO_ANSWER


def _completed(turn: Example) -> str | None:
    """The question with the answer below it: HumanEval's solutions are the bodies of functions that it begins."""
    if "code" not in (turn.grader or {}) or turn.target is None:
        return None
    return f"{turn.messages[-1].content}\n{turn.target}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


# -------------------------------------------------------------------------------------------------------------- telling


def shortened(problems: Sequence[Problem], hint: str = "") -> list[Problem]:
    """The first problems, and last how many there are besides, with what to do about all of them."""
    rest = len(problems) - SHOWN
    last = f"and {rest} more" if rest > 0 else "mend these rows" if hint else ""
    return [*problems[:SHOWN], *([Problem(last, hint=hint)] if last else [])]


def sound_rows(path: Path, problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """The rows of a file that no problem names."""
    named = {problem.where for problem in problems}
    return [raw.value for raw in read(path) if raw.value is not None and raw.where not in named]


def resolution(n: int) -> tuple[float, float | None]:
    """What `n` yes/no items can say: half the 95 % interval's width at a score of 50 %, and the smallest difference
    of two models at which a paired test finds one better, when they differ on a fifth of the items. None: no
    difference would do."""
    low, high = wilson(0.5, n)
    changed = max(1, round(CHANGING * n))
    for won in range((changed + 1) // 2, changed + 1):
        first = [0.0] * won + [1.0] * (n - won)
        second = [1.0] * won + [0.0] * (changed - won) + [1.0] * (n - changed)
        if paired(first, second).p_value < 0.05:
            return (high - low) / 2, (2 * won - changed) / n
    return (high - low) / 2, None


def first_item(item: Example) -> str:
    """An item word for word as models are asked, turn by turn."""
    parts = [f"{message.role}: {message.content}" for message in item.messages]
    for number, later in enumerate(later_turns(item), start=1):
        parts += [f"assistant: (its own answer {number})", f"user: {later['text']}"]
    return "\n".join(parts)


def text_of(found: Draft, data: Path, to: Path) -> str:
    """The task as a commented file at `to`."""
    relative = os.path.relpath(data.resolve(), to.resolve().parent)
    comments = {
        "path": "the rows; relative to this file",
        "name": "what results call it",
        "prompt": "key of the question",
        "template": "the question made of a row's keys",
        "turns": "key of the user's turns, asked one after the other",
        "answer": "key of the right answer",
        "choices": "key of the options",
        "tests": "key of the tests of a program",
        "entry_point": "key of the function that the tests check",
        "grader": KINDS[found.kind],
    }
    judge = " --judge MODEL" if needs_judge(found) else ""
    lines = [
        f"# {len(found.items)} items, each tried by `burnish eval new`.",
        f"#   burnish eval MODEL --tasks {to.name}{judge}",
        f"#   suites: {{dev: {{tasks: [./{to.name}]}}}}        in a recipe",
        "jsonl:",
    ]
    for key, value in {"path": relative, **found.settings}.items():
        lines.append(f"  {key + ': ' + _yaml(value):<40}  # {comments[key]}")
    lines += [
        '  # system: "..."                           # a system message before every question',
        "  # cluster: KEY                            # what rows share (one text, one source): wider, honest intervals",
        "  # n: 100                                  # only so many rows, drawn by the suite's seed",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def needs_judge(found: Draft) -> bool:
    """Whether a judge model must score some of it."""
    return split_choice(found.settings.get("grader", "exact"), "reward")[0] == "judge"


def _yaml(value: Any) -> str:
    import yaml

    style = '"' if isinstance(value, str) and "\n" in value else None
    text = str(yaml.safe_dump(value, default_style=style, default_flow_style=True, width=10_000, allow_unicode=True))
    return text.strip().removesuffix("...").strip()  # the end mark of a document
