"""Ask a model every item of a suite, grade the answers, and say what they show."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.engines.base import Engine, Prompt, Scored
from burnish.errors import EvaluationError
from burnish.evaluation.judged import Judge
from burnish.evaluation.stats import (
    Estimate,
    PairedDifference,
    cluster_names,
    macro,
    mean_interval,
    paired,
    paired_macro,
)
from burnish.evaluation.turns import asked, graders, is_conversation, transcript
from burnish.log import note
from burnish.rewards import grade_all, is_judged
from burnish.rewards.judge import NO_JUDGE
from burnish.types import Completion, Example, Sampling, Score, StopReason

OVERALL = "overall"
"""The name of the row that takes every task with the same weight."""

UNKNOWN = Estimate(0, math.nan, math.nan, math.nan, math.nan)
"""The mean of nothing."""

Normalize = Callable[[Scored, str], float]
NORMALIZE: dict[str, Normalize] = {
    "sum": lambda scored, option: scored.logprob,
    "characters": lambda scored, option: scored.logprob / max(1, len(option)),
    "tokens": lambda scored, option: scored.logprob / max(1, scored.tokens),
}
"""How options of unequal length are compared; `meta["normalize"]` of an item names one, `characters` otherwise."""


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """The answer to one turn of a conversation, and its grade."""

    score: Score | None
    """None for a turn that is asked and not graded."""
    text: str
    tokens: int
    judged: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item's answer and grade."""

    id: str
    task: str
    score: Score
    """Of a conversation, the mean over its graded turns."""
    text: str
    """The answer; for an item with choices, the most probable of them; of a conversation, the transcript."""
    tokens: int
    """Tokens that were generated or scored for it."""
    cluster: str = ""
    """What the item has in common with others (one text, one source); empty when it stands alone."""
    judged: bool = False
    """Whether the grade is a judge model's, on a scale from 0 to 1."""
    turns: tuple[TurnOutcome, ...] = ()
    """Of a conversation, each turn. They are reported apart, as `task/turn-1`, `task/turn-2`, ..."""


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


def evaluate(
    engine: Engine, items: Sequence[Example], sampling: Sampling, *, label: str, judge: Judge | None = None
) -> list[Outcome]:
    """Answer and grade every item, in the order of the items.

    Items with choices are scored by log-probability, the others are generated with `sampling` and graded by their own
    grader, or by `judge` where that is their grader. The turns of a conversation are asked one after the other, those
    of all items together. An item that is too long for the model is unscored, with the reason; so is one that its
    grader cannot grade, and a judged one without a judge. `label` names the model in messages.
    """
    written = [index for index, item in enumerate(items) if not item.choices]
    compared = [index for index, item in enumerate(items) if item.choices]
    outcomes = dict(zip(written, _write(engine, [items[index] for index in written], sampling, judge), strict=True))
    outcomes |= zip(compared, _compare(engine, [items[index] for index in compared]), strict=True)
    found = [outcomes[index] for index in range(len(items))]
    waiting = [outcome for outcome in found if outcome.score.error == NO_JUDGE]
    if waiting:
        note(f"{label}: {len(waiting)} of {len(found)} items unscored: a judge scores them, and none was named")
    unscored = [outcome for outcome in found if outcome.score.value is None and outcome.score.error != NO_JUDGE]
    if unscored:
        first = unscored[0]
        note(f"{label}: {len(unscored)} of {len(found)} items unscored; the first: {first.id}: {first.score.error}")
    return found


class _Talk:
    """An item while it is asked: one turn, or the turns of a conversation so far."""

    def __init__(self, item: Example) -> None:
        self.item = item
        self.graders = graders(item)
        self.answers: list[Completion] = []
        self.stopped = ""
        """Why the next turn could not be asked."""
        self.scores: dict[int, Score] = {}

    def asked(self, turn: int) -> Example:
        """A turn behind the answers before it."""
        return asked(self.item, [answer.text for answer in self.answers[:turn]])

    def outcome(self) -> Outcome:
        if not is_conversation(self.item):
            (turn,) = self._turns()
            assert turn.score is not None
            return replace(_outcome(self.item, turn.score, turn.text, turn.tokens), judged=turn.judged)
        turns = self._turns()
        text = transcript(self.item, [answer.text for answer in self.answers])
        outcome = _outcome(self.item, _mean_score(turns), text, sum(turn.tokens for turn in turns))
        return replace(outcome, turns=tuple(turns), judged=any(turn.judged for turn in turns))

    def _turns(self) -> list[TurnOutcome]:
        found = []
        for number, grader in enumerate(self.graders):
            answer = self.answers[number] if number < len(self.answers) else Completion("")
            graded = grader or not is_conversation(self.item)
            unasked = Score(None, error=self.stopped) if self.stopped and graded else None
            score = self.scores.get(number, unasked)
            found.append(TurnOutcome(score, answer.text, len(answer.ids), is_judged(grader)))
        return found


def _write(engine: Engine, items: Sequence[Example], sampling: Sampling, judge: Judge | None) -> list[Outcome]:
    talks = [_Talk(item) for item in items]
    for turn in range(max((len(talk.graders) for talk in talks), default=0)):
        _ask(engine, [talk for talk in talks if turn < len(talk.graders) and not talk.stopped], turn, sampling)
    graded = [(talk, turn, talk.asked(turn)) for talk in talks for turn in range(len(talk.answers))
              if talk.graders[turn] or not is_conversation(talk.item)]  # fmt: skip
    texts = [talk.answers[turn].text for talk, turn, _ in graded]
    scores = _grade([example for *_, example in graded], texts, judge)
    for (talk, turn, _), score in zip(graded, scores, strict=True):
        talk.scores[turn] = score
    return [talk.outcome() for talk in talks]


def _ask(engine: Engine, talks: Sequence[_Talk], turn: int, sampling: Sampling) -> None:
    """Ask the next turn of all conversations in one call."""
    prompts = [talk.asked(turn).prompt for talk in talks]
    too_long = engine.too_long(prompts)
    for number, why in too_long.items():
        talks[number].stopped = why
    going = [number for number in range(len(talks)) if number not in too_long]
    answers = engine.generate([prompts[number] for number in going], sampling) if going else []
    for number, (answer,) in zip(going, answers, strict=True):
        if answer.stop is StopReason.FAILED:
            talks[number].stopped = answer.text
        else:
            talks[number].answers.append(answer)


def _grade(examples: Sequence[Example], texts: Sequence[str], judge: Judge | None) -> list[Score]:
    """The score of each answer, by its grader or by the judge."""
    judged = [place for place, example in enumerate(examples) if judge is not None and is_judged(example.grader)]
    others = sorted(set(range(len(examples))).difference(judged))
    found = dict(zip(others, grade_all([examples[at] for at in others], [texts[at] for at in others]), strict=True))
    if judge is not None and judged:
        found |= zip(judged, judge.score([examples[at] for at in judged], [texts[at] for at in judged]), strict=True)
    return [found[place] for place in range(len(examples))]


def _mean_score(turns: Sequence[TurnOutcome]) -> Score:
    """The score of a conversation: the mean of its graded turns, unscored when one of them is."""
    graded = [(number, turn.score) for number, turn in enumerate(turns, start=1) if turn.score is not None]
    for _, score in graded:
        if score.value is None:
            return Score(None, error=score.error)
    values = [score.value for _, score in graded if score.value is not None]
    if not values:
        return Score(None, error="none of its turns has a grader")
    why = "; ".join(f"turn {number}: {score.why}" for number, score in graded if score.why)
    return Score(sum(values) / len(values), None, why)


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
    if not scored:
        return _outcome(item, Score(None, error="the request failed"), "", 0)
    first_token = any(one.begins for one in scored)
    normalize = NORMALIZE["sum" if first_token else str(item.meta.get("normalize", "characters"))]
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

    A task of conversations has a row for each turn and one for all of them, in which the turns of a conversation go
    together; that one counts in `overall`. Where all items wait for a judge, the row has no mean (NaN) and counts in no
    other. Raises EvaluationError when a task has no scored item for another reason: the suite, a grader or the model's
    context is wrong.
    """
    rows: list[Report] = []
    estimates, unscored = [], 0
    for task, group in _by_task(outcomes).items():
        for name, part in _parts(task, group).items():
            scored = [outcome for outcome in part if _is_scored(outcome)]
            if not scored and any(outcome.score.error != NO_JUDGE for outcome in part):
                raise _nothing_scored(name, part)
            estimate = _estimate(scored) if scored else UNKNOWN
            rows.append(_row(name, estimate, len(part) - len(scored)))
        estimates += [estimate] if scored else []
        unscored += rows[-1].unscored
    if not rows:
        raise EvaluationError("there are no items to report on", hint="give the suite a task")
    return [*rows, _row(OVERALL, macro(estimates) if estimates else UNKNOWN, unscored)]


def _nothing_scored(task: str, group: Sequence[Outcome]) -> EvaluationError:
    hint = "mend the task's items or graders, or use a model with a longer context"
    if all(outcome.judged for outcome in group):
        hint = "a judge with a longer context, or read otherwise: how: {pointwise: {by: logprob}}"
    what = f"none of the {len(group)} items of task '{task}' could be scored"
    return EvaluationError(f"{what}; the first: {group[0].id}: {group[0].score.error}", hint=hint)


def _estimate(scored: Sequence[Outcome]) -> Estimate:
    judged = all(outcome.judged for outcome in scored)
    return mean_interval(_values(scored), _clusters(scored), (0.0, 1.0) if judged else None)


def _parts(task: str, group: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of a task, and before them those of each turn of its conversations."""
    turns: dict[str, list[Outcome]] = {}
    whole: list[Outcome] = []
    for outcome in group:
        found = _turns_apart(outcome)
        whole += found
        for one in found if outcome.turns else ():
            turns.setdefault(one.task, []).append(one)
    return {**{name: turns[name] for name in sorted(turns, key=lambda name: (len(name), name))}, task: whole}


def _turns_apart(outcome: Outcome) -> list[Outcome]:
    """Each graded turn of a conversation as an outcome of its own; what shares a conversation is one cluster."""
    if not outcome.turns:
        return [outcome]
    return [
        replace(outcome, id=f"{outcome.id}/turn-{number}", task=f"{outcome.task}/turn-{number}", score=turn.score,
                text=turn.text, tokens=turn.tokens, cluster=outcome.cluster or outcome.id, judged=turn.judged, turns=())
        for number, turn in enumerate(outcome.turns, start=1) if turn.score is not None
    ]  # fmt: skip


def _row(task: str, estimate: Estimate, unscored: int) -> Report:
    return Report(task, estimate.n, unscored, estimate.mean, estimate.stderr, estimate.low, estimate.high)


def compare(baseline: Sequence[Outcome], outcomes: Sequence[Outcome]) -> dict[str, PairedDifference]:
    """What a model gains over the baseline on each task and overall, paired item by item and turn by turn.

    Items that are unscored for either are left out. Raises EvaluationError when the two answered different items.
    """
    if {outcome.id for outcome in baseline} != {outcome.id for outcome in outcomes}:
        raise EvaluationError("cannot compare answers to different items", hint="score both models on one suite")
    before = {one.id: one for outcome in baseline for one in _turns_apart(outcome)}
    found: dict[str, PairedDifference] = {}
    parts: dict[str, tuple[PairedDifference, Sequence[float], Sequence[str] | None]] = {}
    for task, group in _by_task(outcomes).items():
        for name, part in _parts(task, group).items():
            both = [(before[one.id], one) for one in part if _is_scored(before[one.id]) and _is_scored(one)]
            if not both:
                continue
            first, second = _values([one for one, _ in both]), _values([one for _, one in both])
            clusters = _clusters([one for one, _ in both])
            found[name] = paired(first, second, clusters)
            if name == task:
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
    """What the outcomes share; None when no two share anything, as when each turn of a conversation stands alone."""
    names = cluster_names([outcome.id for outcome in outcomes], [outcome.cluster for outcome in outcomes])
    return names if names is not None and len(set(names)) < len(names) else None


# ---------------------------------------------------------------------------------------------------------------- files


def read_outcomes(path: Path) -> list[Outcome]:
    """Outcomes from JSONL rows in the form of `dataclasses.asdict`. Raises EvaluationError for a row that is none."""
    found = []
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                row = json.loads(line)
                turns = tuple(map(_turn, row.get("turns", ())))
                found.append(Outcome(**{**row, "score": Score(**row["score"]), "turns": turns}))
            except (ValueError, TypeError, KeyError, AttributeError):
                raise EvaluationError("a row is no answer with a grade", where=f"{path}:{number}",
                                      hint="name a file outcomes.jsonl of a run's scores") from None  # fmt: skip
    return found


def _turn(row: dict[str, Any]) -> TurnOutcome:
    return TurnOutcome(**{**row, "score": Score(**row["score"]) if row["score"] is not None else None})
