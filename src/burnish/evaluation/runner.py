"""Ask a model every item of a suite, grade the answers, and say what they show."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.engines.base import Engine, Prompt, Scored
from burnish.errors import EvaluationError
from burnish.evaluation.stats import (
    Estimate,
    PairedDifference,
    cluster_names,
    macro,
    mean_interval,
    paired,
    paired_macro,
)
from burnish.log import note
from burnish.rewards import grade
from burnish.types import Example, Sampling, Score

OVERALL = "overall"
"""The name of the row that takes every task with the same weight."""

Normalize = Callable[[Scored, str], float]
NORMALIZE: dict[str, Normalize] = {
    "sum": lambda scored, option: scored.logprob,
    "characters": lambda scored, option: scored.logprob / max(1, len(option)),
    "tokens": lambda scored, option: scored.logprob / max(1, scored.tokens),
}
"""How options of unequal length are compared; `meta["normalize"]` of an item names one, `characters` otherwise."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item's answer and grade."""

    id: str
    task: str
    score: Score
    text: str
    """The answer; for an item with choices, the most probable of them."""
    tokens: int
    """Tokens that were generated or scored for it."""
    cluster: str = ""
    """What the item has in common with others (one text, one source); empty when it stands alone."""


@dataclass(frozen=True, slots=True)
class Report:
    """A model's mean score on one task, or over all tasks."""

    task: str
    n: int
    """Scored items."""
    unscored: int
    """Items without a grade; they are in no mean."""
    mean: float
    stderr: float
    low: float
    high: float


def evaluate(engine: Engine, items: Sequence[Example], sampling: Sampling, *, label: str) -> list[Outcome]:
    """Answer and grade every item, in the order of the items.

    Items with choices are scored by log-probability, the others are generated with `sampling` and graded by their own
    grader. An item that is too long for the model is unscored, with the reason; so is one that its grader cannot
    judge. `label` names the model in messages.
    """
    written = [index for index, item in enumerate(items) if not item.choices]
    compared = [index for index, item in enumerate(items) if item.choices]
    outcomes = dict(zip(written, _write(engine, [items[index] for index in written], sampling), strict=True))
    outcomes |= zip(compared, _compare(engine, [items[index] for index in compared]), strict=True)
    found = [outcomes[index] for index in range(len(items))]
    unscored = [outcome for outcome in found if outcome.score.value is None]
    if unscored:
        first = unscored[0]
        note(f"{label}: {len(unscored)} of {len(found)} items unscored; the first: {first.id}: {first.score.error}")
    return found


def _write(engine: Engine, items: Sequence[Example], sampling: Sampling) -> list[Outcome]:
    prompts = [item.prompt for item in items]
    too_long = engine.too_long(prompts)
    asked = [index for index in range(len(items)) if index not in too_long]
    answers = engine.generate([prompts[index] for index in asked], sampling) if asked else []
    graded = {
        index: _outcome(items[index], grade(items[index], answer.text), answer.text, len(answer.ids))
        for index, (answer,) in zip(asked, answers, strict=True)
    }
    return [graded[index] if index in graded else _unasked(item, too_long[index]) for index, item in enumerate(items)]


def _compare(engine: Engine, items: Sequence[Example]) -> list[Outcome]:
    prompts = [choice_prompt(item) for item in items]
    options = [_continuations(prompt, item) for prompt, item in zip(prompts, items, strict=True)]
    too_long = engine.too_long(prompts, options)
    asked = [index for index in range(len(items)) if index not in too_long]
    scored = engine.choices([prompts[index] for index in asked], [options[index] for index in asked]) if asked else []
    chosen = {index: _chosen(items[index], found) for index, found in zip(asked, scored, strict=True)}
    return [chosen[index] if index in chosen else _unasked(item, too_long[index]) for index, item in enumerate(items)]


def _unasked(item: Example, why: str) -> Outcome:
    return _outcome(item, Score(None, error=why), "", 0)


def choice_prompt(item: Example) -> Prompt:
    """What stands before the options: plain text for a single message, so that a base model is measured as it is.

    `meta["style"]` "chat" asks through the chat template instead; a conversation of several turns always does.
    """
    chat = len(item.prompt) > 1 or item.meta.get("style") == "chat"
    return item.prompt if chat else item.prompt[0].content


def _continuations(prompt: Prompt, item: Example) -> list[str]:
    """The options as they follow the prompt: in a text, a space separates them from it unless white space does."""
    glue = " " if isinstance(prompt, str) and not prompt[-1:].isspace() else ""
    return [glue + option for option in item.choices]


def _chosen(item: Example, scored: Sequence[Scored]) -> Outcome:
    normalize = NORMALIZE[str(item.meta.get("normalize", "characters"))]
    values = [normalize(one, option) for one, option in zip(scored, item.choices, strict=True)]
    best = max(range(len(values)), key=values.__getitem__)  # the first of equals
    answer, tokens = item.choices[best], sum(one.tokens for one in scored)
    if item.target not in item.choices:
        return _outcome(item, Score(None, error=f"the target {item.target!r} is none of the choices"), answer, tokens)
    why = "" if answer == item.target else f"{item.target!r} is less probable"
    return _outcome(item, Score(float(answer == item.target), answer, why), answer, tokens)


def _outcome(item: Example, score: Score, text: str, tokens: int) -> Outcome:
    return Outcome(item.id, task_of(item)[0], score, text, tokens, task_of(item)[1])


def task_of(item: Example) -> tuple[str, str]:
    """An item's task, and what it shares with others: empty when it stands alone."""
    return str(item.meta["task"]), str(item.meta.get("cluster", ""))


# -------------------------------------------------------------------------------------------------------------- reports


def report(outcomes: Sequence[Outcome]) -> list[Report]:
    """A row for each task in the order of the outcomes, and last `overall`, their plain mean.

    Raises EvaluationError when a task has no scored item at all: the suite, a grader or the model's context is wrong.
    """
    rows, estimates = [], []
    for task, group in _by_task(outcomes).items():
        scored = [outcome for outcome in group if _is_scored(outcome)]
        if not scored:
            raise EvaluationError(
                f"none of the {len(group)} items of task '{task}' could be scored; "
                f"the first: {group[0].id}: {group[0].score.error}",
                hint="mend the task's items or graders, or use a model with a longer context",
            )
        estimate = mean_interval(_values(scored), _clusters(scored))
        estimates.append(estimate)
        rows.append(_row(task, estimate, len(group) - len(scored)))
    if not rows:
        raise EvaluationError("there are no items to report on", hint="give the suite a task")
    return [*rows, _row(OVERALL, macro(estimates), sum(row.unscored for row in rows))]


def _row(task: str, estimate: Estimate, unscored: int) -> Report:
    return Report(task, estimate.n, unscored, estimate.mean, estimate.stderr, estimate.low, estimate.high)


def compare(baseline: Sequence[Outcome], outcomes: Sequence[Outcome]) -> dict[str, PairedDifference]:
    """What a model gains over the baseline on each task and overall, paired item by item.

    Items that are unscored for either are left out. Raises EvaluationError when the two answered different items.
    """
    before = {outcome.id: outcome for outcome in baseline}
    if set(before) != {outcome.id for outcome in outcomes}:
        raise EvaluationError("cannot compare answers to different items", hint="score both models on one suite")
    found: dict[str, PairedDifference] = {}
    parts: dict[str, tuple[PairedDifference, Sequence[float], Sequence[str] | None]] = {}
    for task, group in _by_task(outcomes).items():
        both = [(before[one.id], one) for one in group if _is_scored(before[one.id]) and _is_scored(one)]
        if not both:
            continue
        first, second = _values([one for one, _ in both]), _values([one for _, one in both])
        clusters = _clusters([one for one, _ in both])
        found[task] = paired(first, second, clusters)
        parts[task] = (found[task], [b - a for a, b in zip(first, second, strict=True)], clusters)
    return {**found, OVERALL: paired_macro(parts)} if parts else {}


def _by_task(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.task, []).append(outcome)
    return groups


def _is_scored(outcome: Outcome) -> bool:
    return outcome.score.value is not None


def _values(outcomes: Sequence[Outcome]) -> list[float]:
    return [outcome.score.value for outcome in outcomes if outcome.score.value is not None]


def _clusters(outcomes: Sequence[Outcome]) -> list[str] | None:
    return cluster_names([outcome.id for outcome in outcomes], [outcome.cluster for outcome in outcomes])


# ---------------------------------------------------------------------------------------------------------------- files


def read_outcomes(path: Path) -> list[Outcome]:
    """Outcomes from JSONL rows in the form of `dataclasses.asdict`."""
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [Outcome(**{**row, "score": Score(**row["score"])}) for row in rows]
