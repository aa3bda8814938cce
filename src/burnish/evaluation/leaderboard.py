"""A leaderboard of models that were judged against one baseline: raw and length-controlled win rates.

Rows are those of AlpacaEval: an instruction, a model's answer, the baseline's answer and the judge's preference from 1
(the baseline wins) to 2 (the model wins), where a judge that is unsure stands between.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.sources import read
from burnish.errors import EvaluationError
from burnish.evaluation.length_control import Anchor, controlled, length_feature

DRAW = 0.5
GAMED = 0.5
"""Share of a model's answers that are one and the same text from which on a high win rate is a judge's failure."""
NAMES = {
    "instruction": ("instruction", "prompt", "question"),
    "model": ("model", "generator_2", "generator"),
    "output": ("output", "output_2", "answer"),
    "baseline_output": ("baseline_output", "output_1", "baseline_answer"),
    "preference": ("preference",),
}
"""What a column may be called; AlpacaEval's annotation files have the second names."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer beside the baseline's."""

    instruction: str
    model: str
    output: str
    baseline_output: str
    label: float | None
    """How sure the judge is that the model won, 0 to 1; None when its verdict could not be read."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A model on the board. Rates in percent."""

    model: str
    n: int
    win_rate: float
    win_rate_se: float
    lc_win_rate: float
    lc_win_rate_se: float
    average_length: float
    """Characters of an answer."""
    unscored: int
    """Answers whose verdict could not be read; they are in no rate."""
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Controls:
    """What is known of a prompt set: how hard its instructions are, and answers that differ in length alone."""

    hardness: Mapping[str, float] = field(default_factory=dict)
    anchor: Anchor | None = None


# -------------------------------------------------------------------------------------------------------------- reading


def read_judged(path: Path) -> list[Judged]:
    """Judged answers from a JSONL, JSON, CSV or Parquet file.

    Raises EvaluationError, with file and line, for a row without one of the columns or with a preference outside 1..2.
    """
    found = []
    for raw in read(path):
        if raw.value is None:
            raise EvaluationError(f"cannot use a row: {raw.error}", where=raw.where, hint="mend the row or remove it")
        values = {name: _column(raw.value, name, raw.where) for name in NAMES}
        label = _label(values.pop("preference"), raw.where)
        found.append(Judged(**{name: str(value) for name, value in values.items()}, label=label))
    return found


def _column(row: Mapping[str, Any], name: str, where: str) -> Any:
    for known in NAMES[name]:
        if known in row:
            return row[known]
    raise EvaluationError(f"a row has no '{name}'", where=where, hint="its columns: " + ", ".join(map(str, row)))


def _label(preference: Any, where: str) -> float | None:
    """0 to 1 from AlpacaEval's 1 to 2; its older files write a draw as 0."""
    if preference is None or preference == "" or preference != preference:  # NaN differs from itself
        return None
    try:
        value = float(preference)
    except (TypeError, ValueError):
        value = math.nan
    if value == 0:
        return DRAW
    if not 1 <= value <= 2:
        raise EvaluationError(f"a preference lies between 1 and 2, got {preference!r}", where=where,
                              hint="1 says that the baseline wins, 2 that the model does")  # fmt: skip
    return value - 1


def read_controls(path: Path) -> Controls:
    """The inputs of AlpacaEval's fit: hardness of the instructions, and its gamed baseline answers.

    Keys: instructions, instruction_difficulty, baseline_output_length, gamed_output_length (verbose and concise),
    gamed_label_sufficient_stats (sum_y_tanh, sum_y_difficulty). Raises EvaluationError for a file without them.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        hardness = np.array(found["instruction_difficulty"], dtype=np.float64)
        baseline = np.array(found["baseline_output_length"], dtype=np.float64)
        rows = [
            np.stack([length_feature(baseline, np.array(lengths, dtype=np.float64)), hardness, 0 * hardness], axis=1)
            for lengths in found["gamed_output_length"].values()
        ]
        sums = found["gamed_label_sufficient_stats"]
        labels = np.array([sums["sum_y_tanh"], sums["sum_y_difficulty"], 0.0])
        known = dict(zip(found["instructions"], hardness.tolist(), strict=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"these are no inputs of a length-controlled fit: {error!r}", where=str(path),
                              hint="leave the file out for a prompt set of your own") from None  # fmt: skip
    return Controls(known, Anchor(np.concatenate(rows), labels))


# --------------------------------------------------------------------------------------------------------------- board


def board(rows: Iterable[Judged], controls: Controls | None = None) -> list[Standing]:
    """The models, best length-controlled win rate first.

    Instructions that the controls do not know count as of average hardness (0). Raises EvaluationError when a model has
    no readable verdict at all.
    """
    models: dict[str, list[Judged]] = defaultdict(list)
    for row in rows:
        models[row.model].append(row)
    found = [_standing(model, group, controls or Controls()) for model, group in models.items()]
    return sorted(found, key=lambda one: -one.lc_win_rate)


def _standing(model: str, rows: Sequence[Judged], controls: Controls) -> Standing:
    scored = [row for row in rows if row.label is not None]
    if not scored:
        raise EvaluationError(f"no verdict on '{model}' could be read", hint="look at the judge's replies")
    labels = np.array([row.label for row in scored], dtype=np.float64)
    lengths = np.array([[len(row.baseline_output), len(row.output)] for row in scored], dtype=np.float64)
    hardness = np.array([controls.hardness.get(row.instruction, 0.0) for row in scored]) if controls.hardness else None
    fitted = controlled(labels, length_feature(lengths[:, 0], lengths[:, 1]), hardness, controls.anchor)
    stderr = float(labels.std(ddof=1)) / math.sqrt(len(labels)) if len(labels) > 1 else math.inf
    rate = 100 * float(labels.mean())
    return Standing(
        model, len(scored), rate, 100 * stderr, 100 * fitted.win_rate, 100 * fitted.stderr, float(lengths[:, 1].mean()),
        len(rows) - len(scored), tuple(_alarms(rows, rate)),
    )  # fmt: skip


def _alarms(rows: Sequence[Judged], rate: float) -> Iterator[str]:
    """What should make a reader doubt the judge."""
    text, count = Counter(row.output for row in rows).most_common(1)[0]
    instructions = len({row.instruction for row in rows})
    if instructions > 1 and count >= GAMED * len(rows):
        yield (f"{count} of its {len(rows)} answers are one and the same text ({text[:40]!r}...), and it wins "
               f"{rate:.1f}%: an answer that ignores the question should win next to nothing, so the judge is fooled"
               if rate > 5 else
               f"{count} of its {len(rows)} answers are one and the same text ({text[:40]!r})")  # fmt: skip


def unknown_instructions(rows: Iterable[Judged], controls: Controls) -> int:
    """How many of the judged instructions the controls say nothing about."""
    return len({row.instruction for row in rows} - set(controls.hardness)) if controls.hardness else 0
