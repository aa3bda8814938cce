"""What models are measured on. A task is settings that give items; a suite is the frozen items of several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from burnish.errors import ConfigError, EvaluationError
from burnish.registry import Entry, Registry, split_choice
from burnish.types import Example
from burnish.workspace import file_digest

if TYPE_CHECKING:
    from burnish.evaluation.tasks.base import Task

_PEBBLE = "burnish.evaluation.tasks.pebble"

TASKS = Registry(
    "task",
    [
        Entry("jsonl", "burnish.evaluation.tasks.jsonl:JsonLines", "your own file of questions and answers"),
        Entry("gsm8k", "burnish.evaluation.tasks.gsm8k:GSM8K", "grade-school word problems", "arXiv:2110.14168"),
        Entry("mmlu", "burnish.evaluation.tasks.mmlu:MMLU", "57 subjects, by log-probability", "arXiv:2009.03300"),
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
        if not item.choices and not item.grader:
            raise EvaluationError("an item has neither choices nor a grader", where=item.id)
