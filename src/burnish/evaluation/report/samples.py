"""Which answers a report shows: drawn by chance, so that nobody chose the pretty ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.evaluation.report.data import Answer, Sample
from burnish.evaluation.runner import Outcome
from burnish.rng import seed_for
from burnish.types import Example

DRAWN = "Drawn by chance, tasks in turn."
"""What a page may say of samples that were chosen here."""


def side_by_side(
    items: Sequence[Example], outcomes: Mapping[str, Sequence[Outcome]], limit: int, seed: int = 0
) -> list[Sample]:
    """The answers of several models (name -> outcomes) to `limit` items of a suite, one task after the other.

    Only items that every model was asked are shown; their order follows from the seed and their ids.
    """
    given = {model: {outcome.id: outcome for outcome in found} for model, found in outcomes.items()}
    tasks: dict[str, list[Example]] = {}
    for item in sorted(items, key=lambda item: seed_for(seed, "samples", item.id)):
        if all(item.id in found for found in given.values()):
            tasks.setdefault(str(item.meta["task"]), []).append(item)
    turns = [(place, task, item) for task, group in tasks.items() for place, item in enumerate(group)]
    chosen = sorted(turns, key=lambda turn: (turn[0], turn[1]))[:limit]
    return [_sample(task, item, given) for _, task, item in chosen]


def _sample(task: str, item: Example, given: Mapping[str, Mapping[str, Outcome]]) -> Sample:
    answers = []
    for model, found in given.items():
        outcome = found[item.id]
        score = outcome.score
        answers.append(Answer(model, outcome.text, score.value, score.error or score.why))
    return Sample(task, item.prompt, item.target or "", answers)
