"""Graders: settings and one verb, `grade(example, text) -> Score`. The same grader serves evaluation, filtering,
preference building and search, so they cannot disagree.

A text from which no answer can be read is a wrong answer: value 0.0 with the reason. A score without a value (`error`
set) means that the grader itself could not work, for example because the item has no usable target.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from burnish.errors import BurnishError, ConfigError, EvaluationError
from burnish.registry import Entry, Registry, split_choice
from burnish.types import Example, Score

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
    ],
)


def grade(example: Example, text: str) -> Score:
    """Score an answer with the example's own grader.

    Raises EvaluationError when the example names no grader, or one that does not exist or has wrong settings.
    """
    if not example.grader:
        raise EvaluationError(
            f"example '{example.id}' has no grader", hint='give its row one, e.g. "grader": {"numeric": {}}'
        )
    score: Score = _grader(json.dumps(example.grader, sort_keys=True)).grade(example, text)
    return score


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
        wrong = error.errors()[0]
        raise EvaluationError(f"grader '{name}': {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None
    return {name: settings}


@lru_cache(maxsize=4096)
def _grader(choice: str) -> Any:
    try:
        return REWARDS.build(json.loads(choice))
    except (BurnishError, ValueError, TypeError) as error:
        raise EvaluationError(f"cannot use the grader {choice}: {error}") from error
