"""What models are measured on. A task is settings that give items; a suite is the frozen items of several tasks.

A task can also be kept in a file of its own, `{jsonl: {path: questions.jsonl, ...}}` as YAML, and be named by its path
wherever a task is named. Paths in it are relative to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import ConfigError, EvaluationError
from burnish.evaluation.turns import graders, is_conversation
from burnish.registry import Entry, Registry, split_choice
from burnish.rewards import grader_of
from burnish.types import Example
from burnish.workspace import file_digest

if TYPE_CHECKING:
    from burnish.evaluation.tasks.base import Task

_PEBBLE = "burnish.evaluation.tasks.pebble"

SUFFIXES = (".yaml", ".yml")
"""How the name of a task's file ends."""
ROWS = (".jsonl", ".json", ".csv", ".parquet")
"""How the names of files end that are sometimes given in a task's place."""
PATHS = ("path", "references", "dev", "shots_from")
"""Settings of tasks that name files."""


class Tasks(Registry):
    """The table of tasks, in which a file with a task's settings can stand for its row."""

    def resolve(self, name: str) -> Any:
        """The class behind a name, or what builds the task that a file describes."""
        if Path(name).suffix in ROWS:
            raise ConfigError(f"'{name}' holds rows, and a task says how they are graded",
                              hint=f"`burnish eval new {name}` makes a task of it")  # fmt: skip
        return _builder(name) if is_file(name) else super().resolve(name)


TASKS = Tasks(
    "task",
    [
        Entry("jsonl", "burnish.evaluation.tasks.jsonl:JsonLines", "your own file of questions and answers"),
        Entry("gsm8k", "burnish.evaluation.tasks.gsm8k:GSM8K", "grade-school word problems", "arXiv:2110.14168"),
        Entry("mmlu", "burnish.evaluation.tasks.mmlu:MMLU", "57 subjects, by log-probability", "arXiv:2009.03300"),
        Entry(
            "mt-bench", "burnish.evaluation.tasks.mt_bench:MTBench", "two turns, rated by a judge", "arXiv:2306.05685"
        ),
        Entry("pebble", f"{_PEBBLE}:Pebble", "the embedded model's world: any skills and split"),
        Entry("pebble-choices", f"{_PEBBLE}:PebbleChoices", "facts by log-probability, without a chat"),
        Entry("pebble-arithmetic", f"{_PEBBLE}:PebbleArithmetic", "add, subtract and multiply with steps"),
        Entry("pebble-word-problems", f"{_PEBBLE}:PebbleWordProblems", "two and three step stories about amounts"),
        Entry("pebble-units", f"{_PEBBLE}:PebbleUnits", "convert lengths, weights, volumes and times"),
        Entry("pebble-sorting", f"{_PEBBLE}:PebbleSorting", "sort words and numbers, count occurrences"),
        Entry("pebble-facts", f"{_PEBBLE}:PebbleFacts", "real facts, the letter of an option"),
        Entry("pebble-reading", f"{_PEBBLE}:PebbleReading", "a question about a short text"),
        Entry("pebble-summary", f"{_PEBBLE}:PebbleSummary", "a notice in one sentence with its key facts"),
        Entry("pebble-formats", f"{_PEBBLE}:PebbleFormats", "lists, JSON and upper case as asked"),
        Entry("pebble-dialogue", f"{_PEBBLE}:PebbleDialogue", "a total, list or name kept over several turns"),
    ],
)


def freeze(tasks: Sequence[str | dict[str, Any]], seed: int) -> list[Example]:
    """The items of several tasks, each with its task's name in `meta["task"]` and an id that starts with it.

    The same choices and seed give the same items. Raises ConfigError when two tasks have one name, and
    EvaluationError for a task with fewer than two items or with an item that nothing can grade.
    """
    items: list[Example] = []
    seen: set[str] = set()
    for choice in tasks:
        name = split_choice(choice, "task")[0]
        name = Path(name).stem if is_file(name) else name
        task = _build(choice)
        found = [_named(item, name) for item in task.items(seed)]
        names = {item.meta["task"] for item in found}
        if repeated := seen & names:
            raise ConfigError(
                f"two tasks of one suite are named '{sorted(repeated)[0]}'", hint="name them apart, or make two suites"
            )
        for one in names:
            _check_items(one, [item for item in found if item.meta["task"] == one])
        if not found:
            raise EvaluationError(f"task '{name}' has no items")
        seen |= names
        items += found
    return items


def outside(tasks: Sequence[str | dict[str, Any]]) -> list[str]:
    """Content hashes of the files that tasks read. Raises what the task's `check` raises for a missing file."""
    digests = []
    for choice in tasks:
        task = _build(choice)
        task.check()
        digests += [file_digest(path) for path in task.files()]
    return digests


def _build(choice: str | dict[str, Any]) -> Task:
    task: Task = TASKS.build(choice)
    return task


# ---------------------------------------------------------------------------------------------------------- task files


def is_file(name: str) -> bool:
    """Whether a task's name is the path of a file that describes it."""
    return name.endswith(SUFFIXES)


def written_out(choice: str | dict[str, Any]) -> str | dict[str, Any]:
    """A choice with the settings of the file that it names, where it names one: what it means, wherever it stands."""
    name, settings = split_choice(choice, "task")
    if not is_file(name):
        return choice
    task, held, _ = _read(Path(name))
    return {task: {**held, **settings}}


def _builder(name: str) -> Callable[..., Task]:
    """What makes a file's task; settings that are given with its name replace its own."""
    from burnish.config import validate  # here, so that the table can be listed without it

    task, held, document = _read(Path(name))
    settings_class = TASKS.resolve(task)

    def build(**given: Any) -> Task:
        made: Task | None
        made, problems = validate(settings_class, {**held, **given}, document, (task,))
        if made is None or problems:
            raise ConfigError("\n".join(map(str, problems)))
        return made

    return build


def _read(path: Path) -> tuple[str, dict[str, Any], Any]:
    """The task in a file: its name, its settings with paths as seen from here, and the document for messages.

    Raises ConfigError for a file that is missing or holds anything else, and for one that would make code run.
    """
    from burnish.config import read_yaml

    if not path.is_file():
        raise ConfigError(f"no such file: {path}", hint="`burnish eval new FILE.jsonl` writes one")
    document = read_yaml(path)
    try:
        name, settings = split_choice(document.data, TASKS.kind)
        TASKS.entry(name)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", hint=error.hint or "jsonl: {path: questions.jsonl}") from None
    if ".py:" in str(settings):
        raise ConfigError(f"{path} names code of your own, and a task's file may not make code run",
                          hint=f"name it in the recipe: {{{path}: {{grader: {{use: ./mine.py:Mine}}}}}}")  # fmt: skip
    for key in PATHS:
        if isinstance(settings.get(key), str):
            settings[key] = _seen_from_here(path.parent, settings[key])
    return name, settings, document


def _seen_from_here(folder: Path, name: str) -> str:
    from burnish.data.hub import on_hub

    path = folder / name
    return name if on_hub(name) and not path.exists() else str(path)


def _named(item: Example, name: str) -> Example:
    task = str(item.meta.get("task", name))
    return replace(item, id=f"{task}/{item.id}", meta={**item.meta, "task": task})


def _check_items(task: str, items: Sequence[Example]) -> None:
    if len(items) < 2:
        raise EvaluationError(f"task '{task}' has {len(items)} item", hint="one item measures nothing: add more")
    if len({item.id for item in items}) != len(items):
        raise EvaluationError(f"task '{task}' gives one id to two items", hint="make the ids of its rows differ")
    for item in items:
        if item.choices and item.target not in item.choices:
            raise EvaluationError(f"the target {item.target!r} is none of the choices", where=item.id)
        if item.choices and is_conversation(item):
            raise EvaluationError("an item has both choices and later turns", where=item.id)
        given = [one for one in graders(item) if one]
        if not item.choices and not given:
            raise EvaluationError("an item has neither choices nor a grader", where=item.id)
        for grader in given:
            try:
                grader_of(replace(item, grader=grader))
            except EvaluationError as error:
                raise EvaluationError(error.what, where=item.id, hint=error.hint) from None
