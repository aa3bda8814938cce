"""Graders: settings and one verb, `grade(example, text) -> Score`. The same grader serves evaluation, filtering,
preference building and search, so they cannot disagree.

A text from which no answer can be read is a wrong answer: value 0.0 with the reason. A score without a value (`error`
set) means that the grader itself could not work, for example because the item has no usable target.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from burnish.errors import BurnishError, ConfigError, EvaluationError
from burnish.log import progress
from burnish.registry import Entry, Registry, split_choice
from burnish.types import Example, Score

if TYPE_CHECKING:
    from pydantic import ValidationError

REWARDS = Registry(
    "reward",
    [
        Entry("numeric", "burnish.rewards.numeric:Numeric", "the final number equals the target's", "arXiv:2110.14168"),
        Entry("exact", "burnish.rewards.exact:Exact", "the answer's normalized text equals the target"),
        Entry("choice", "burnish.rewards.choice:Choice", "the answer's option letter equals the target's"),
        Entry("sequence", "burnish.rewards.sequence:Sequence", "a comma separated list equals the target's"),
        Entry("json_object", "burnish.rewards.json_object:JsonObject", "a JSON object equals the target object"),
        Entry("format", "burnish.rewards.format:Format", "the text has the asked shape and holds the asked content"),
        Entry("summary", "burnish.rewards.summary:Summary", "exactly one short sentence with the key facts"),
        Entry("regex", "burnish.rewards.regex:Regex", "a regular expression matches, or its group is the target"),
        Entry("code", "burnish.rewards.code:Code", "the program passes tests, in a sandbox", "arXiv:2107.03374"),
        Entry("judge", "burnish.rewards.judge:Judge", "a judge model scores the answer", "arXiv:2306.05685"),
    ],
)


def grade(example: Example, text: str) -> Score:
    """Score an answer with the example's own grader.

    Raises EvaluationError when the example names no grader, or one that does not exist or has wrong settings.
    """
    score: Score = grader_of(example).grade(example, text)
    return score


def grade_all(examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
    """`grade` of many answers. Graders that start a process for each answer work side by side, one on every core."""
    slow = [place for place, example in enumerate(examples) if getattr(grader_of(example), "parallel", False)]
    found = {place: grade(examples[place], texts[place]) for place in set(range(len(examples))).difference(slow)}
    if slow:
        with ThreadPoolExecutor(_cores()) as pool:
            scores = pool.map(lambda place: grade(examples[place], texts[place]), slow)
            found |= zip(slow, progress(scores, "programs", "answers", len(slow)), strict=True)
    return [found[place] for place in range(len(examples))]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_judged(grader: Mapping[str, Any] | None) -> bool:
    """Whether an example's grader stands for a judge model."""
    return "judge" in (grader or {})


def grader_of(example: Example) -> Any:
    """The grader that an example names. Raises EvaluationError when it names none or one that cannot be used."""
    if not example.grader:
        raise EvaluationError(
            f"example '{example.id}' has no grader", hint='give its row one, e.g. "grader": {"numeric": {}}'
        )
    return _grader(json.dumps(example.grader, sort_keys=True))


def row_grader(choice: Any) -> dict[str, dict[str, Any]]:
    """The grader that a row of data names, as `name` or `{name: {settings}}`.

    A file of data may not make code run: graders of a user's own are named in recipes. Raises EvaluationError for
    those, for names that are not in the table and for settings that do not fit.
    """
    if not isinstance(choice, str | dict):
        raise EvaluationError(f"a grader is a name or {{name: {{settings}}}}, got {choice!r}")
    from pydantic import ValidationError  # here, so that the table can be listed without it

    try:
        name, settings = split_choice(choice, REWARDS.kind)
        if ".py:" in name:
            raise EvaluationError(f"{name} would run code that a row of data names", hint="name it only in recipes")
        REWARDS.build({name: settings})
    except ConfigError as error:
        raise EvaluationError(f"{error.what}; {error.hint}") from None
    except ValidationError as error:
        raise EvaluationError(f"grader '{name}': {_first_mistake(error)}") from None
    return {name: settings}


def _first_mistake(error: ValidationError) -> str:
    wrong = error.errors()[0]
    place = ".".join(map(str, wrong["loc"]))
    return (f"{place}: " if place else "") + str(wrong["msg"]).removeprefix("Value error, ")


@lru_cache(maxsize=4096)
def _grader(choice: str) -> Any:
    from pydantic import ValidationError

    try:
        return REWARDS.build(json.loads(choice))
    except ValidationError as error:
        raise EvaluationError(f"cannot use the grader {_short(choice)}: {_first_mistake(error)}") from None
    except (BurnishError, ValueError, TypeError) as error:
        raise EvaluationError(f"cannot use the grader {_short(choice)}: {error}") from error


def _short(choice: str) -> str:
    return choice if len(choice) <= 120 else choice[:117] + "..."
