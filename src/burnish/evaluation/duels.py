"""Model against model: a judge compares two models' answers to the same items, and human labels correct it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data.sources import read
from burnish.errors import EvaluationError
from burnish.evaluation.judge_card import Pair
from burnish.evaluation.judging import Judge
from burnish.evaluation.runner import Outcome
from burnish.evaluation.stats import Corrected, Estimate, cluster_names, mean_interval, prediction_powered
from burnish.evaluation.votes import OUTCOMES, VoteStore, is_store
from burnish.types import Example

Labels = Mapping[tuple[str, str, str], float]
"""(text of the last user turn, model, other model) -> how people like the model's answer better: 1, 0, or between."""
FEWEST = 10
"""Human labels below which a judge is not corrected: the interval would mean nothing."""


@dataclass(frozen=True, slots=True)
class Duel:
    """A candidate's answers against the baseline's."""

    model: str
    baseline: str
    pairs: Sequence[Pair]
    """The candidate's answer is the first."""
    left_out: int
    """Items without two different texts to compare: choices, unanswered, or the same answer twice (a tie)."""
    wins: Estimate
    """How often the candidate is preferred, by the judge; the same answer twice counts half."""
    corrected: Corrected | None
    """The same for people, from their labels and the judge; None with too few labels."""


def duel(judge: Judge, engine: Any, items: Sequence[Example], answers: Mapping[str, Sequence[Outcome]],
         labels: Labels | None = None) -> Duel:  # fmt: skip
    """Compare the answers of two models, by name, the baseline first.

    Raises EvaluationError when no item has two answers, or when the judge could compare none of them.
    """
    (baseline, before), (model, after) = answers.items()
    theirs, mine = ({one.id: one.text for one in found if _answered(one)} for found in (before, after))
    asked = [item for item in items if not item.choices and item.id in mine and item.id in theirs]
    if not asked:
        raise EvaluationError(f"{model} and {baseline} wrote no answers to the same items",
                              hint="name a suite whose items are answered in words")  # fmt: skip
    unlike = [item for item in asked if mine[item.id] != theirs[item.id]]
    verdicts = judge.compare(engine, unlike, [mine[item.id] for item in unlike], [theirs[item.id] for item in unlike])
    known = labels or {}
    pairs = [
        Pair(item.id, mine[item.id], theirs[item.id], verdict, known.get((item.prompt[-1].content, model, baseline)),
             first_model=model, second_model=baseline, cluster=_cluster(item))
        for item, verdict in zip(unlike, verdicts, strict=True)
    ]  # fmt: skip
    same = [item for item in asked if mine[item.id] == theirs[item.id]]
    scored = [pair for pair in pairs if pair.verdict.preference is not None]
    if not scored and not same:
        why = pairs[0].verdict.error
        raise EvaluationError(f"the judge could compare none of {len(pairs)} answers of {model}: {why}",
                              hint="a judge with a longer context, or how: {pairwise: {by: logprob}}")  # fmt: skip
    shared = [*((pair.id, pair.cluster) for pair in scored), *((item.id, _cluster(item)) for item in same)]
    values = [*(float(pair.verdict.preference or 0.0) for pair in scored), *([0.5] * len(same))]
    wins = mean_interval(values, cluster_names(*map(list, zip(*shared, strict=True))), bounds=(0.0, 1.0))
    return Duel(model, baseline, pairs, len(items) - len(unlike), wins, _corrected(scored, len(same)))


def _answered(outcome: Outcome) -> bool:
    """Whether a model wrote its answer, be it an empty one; a request that failed is no answer."""
    return bool(outcome.text) or outcome.score.error is None


def _cluster(item: Example) -> str:
    return str(item.meta.get("cluster", ""))


def _corrected(scored: Sequence[Pair], same: int) -> Corrected | None:
    """The share of people that prefer the candidate over all items; the `same` answers are ties to anybody."""
    judged = [(float(pair.verdict.preference or 0.0), pair.human) for pair in scored]
    both = [(human, value) for value, human in judged if human is not None]
    rest = [value for value, human in judged if human is None]
    if len(both) < FEWEST:
        return None
    found = prediction_powered([human for human, _ in both], [value for _, value in both], rest)
    return found.with_known(0.5, same, len(scored))


def corrected_from_row(row: Mapping[str, Any]) -> Corrected:
    """A corrected mean from the form of `dataclasses.asdict`."""
    parts = {key: Estimate(**row[key]) for key in ("estimate", "humans", "judge")}
    return Corrected(**{**row, **parts})


def read_labels(path: Path, names: Mapping[str, str] | None = None) -> dict[tuple[str, str, str], float]:
    """Human labels of pairs of answers: votes of an arena, or rows of {prompt, model, baseline, preference}.

    `preference` is 1 when the model's answer is better, 0 when the baseline's is, 0.5 for neither. Of several labels of
    one pair the mean is taken.

    Args:
        names: what models are called in the file, by their names here.
    Raises:
        EvaluationError: with file and line, for a row that is no label.
    """
    ours = {called: name for name, called in (names or {}).items()}
    found: dict[tuple[str, str, str], list[float]] = {}
    for prompt, *both, value in _votes(path) if is_store(path) else _rows(path):
        model, other = (ours.get(name, name) for name in both)
        found.setdefault((prompt, model, other), []).append(value)
        found.setdefault((prompt, other, model), []).append(1 - value)
    return {key: sum(values) / len(values) for key, values in found.items()}


def _votes(path: Path) -> list[tuple[str, str, str, float]]:
    """Votes on answers to one turn; longer conversations differ before the last turn already."""
    return [
        (vote.conversation_a[-2].content, vote.model_a, vote.model_b, OUTCOMES[vote.winner])
        for vote in VoteStore(path) if vote.anony and vote.turn == 1 and len(vote.conversation_a) > 1
    ]  # fmt: skip


def _rows(path: Path) -> list[tuple[str, str, str, float]]:
    found = []
    for raw in read(path):
        row = raw.value or {}
        names = [row.get(key) for key in ("prompt", "model", "baseline")]
        value = row.get("preference")
        if raw.error or not all(isinstance(name, str) for name in names) or value not in (0, 0.5, 1):
            raise EvaluationError("a row is no human label", where=raw.where, hint=json.dumps(
                {"prompt": "...", "model": "sft", "baseline": "base", "preference": 1}))  # fmt: skip
        found.append((str(names[0]), str(names[1]), str(names[2]), float(value)))
    return found
