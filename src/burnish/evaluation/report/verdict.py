"""The first sentences of a report: whether anything got better, by how much, and what got worse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from burnish.evaluation.report.data import ModelScores, RunReport
from burnish.evaluation.report.words import joined, p_words, percent, points, signed
from burnish.evaluation.runner import OVERALL
from burnish.evaluation.stats import PairedDifference

SIGNIFICANT = 0.05
Kind = Literal["better", "unclear", "worse", "none"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader should know who reads nothing else."""

    kind: Kind
    headline: str
    details: tuple[str, ...]
    model: str = ""
    """The model it is about: the best on the first suite."""


def judge(difference: PairedDifference) -> Kind:
    """Better or worse only when the 95 % interval leaves out zero and the test of no difference agrees.

    The score interval is a little bolder than the exact test; on few items one can leave out zero while p is above 5 %.
    """
    if difference.p_value > SIGNIFICANT:
        return "unclear"
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "unclear"


def verdict(data: RunReport) -> Verdict:
    """The verdict on the first suite."""
    suites = data.suite_names()
    rows = data.on(suites[0]) if suites else []
    candidates = [row for row in rows if OVERALL in row.against_base]
    if not candidates:
        headline = "Nothing was compared with the base model."
        if rows:
            headline = (
                f"{rows[0].model} scores {percent(rows[0].overall.mean)} on {suites[0]}; nothing was compared with it."
            )
        return Verdict("none", headline, tuple(data.remarks))
    best = max(candidates, key=lambda row: row.overall.mean)
    details = (*_decided(data), *_gain(data, best, len(candidates)), *_tasks(data, best), *_elsewhere(data, best),
               *_curves(data), *_unscored(data), *data.remarks)  # fmt: skip
    kind = judge(best.against_base[OVERALL])
    doubted = any(one.model == best.model and one.action != "promote" for one in data.decisions)
    return Verdict("unclear" if doubted and kind == "better" else kind, _headline(data, best), details, best.model)


def _decided(data: RunReport) -> Iterator[str]:
    """What the scorecard recommends, which has seen more than one suite."""
    if data.decisions:
        said = [f"{one.action} {one.model}" if one.action != "collect more" else f"collect more on {one.model}"
                for one in data.decisions]  # fmt: skip
        yield f'The scorecard, which joins all evidence, says: {joined(said)}. See "What to do".'


def _headline(data: RunReport, best: ModelScores) -> str:
    gain = best.against_base[OVERALL]
    if judge(gain) == "better":
        return (f"{best.model} scores {percent(best.overall.mean)} on {best.suite}, "
                f"{points(gain.difference)} above {data.baseline}.")  # fmt: skip
    if judge(gain) == "worse":
        rivals = [row for row in data.on(best.suite) if row is not best and OVERALL in row.against_base]
        if rivals and all(judge(row.against_base[OVERALL]) == "worse" for row in rivals):
            return f"Every model is worse than {data.baseline} on {best.suite}; {best.model} comes nearest."
        return f"{best.model}{', the best of them,' if rivals else ''} is worse than {data.baseline} on {best.suite}."
    return f"No model is measurably better than {data.baseline} on {best.suite}."


def _gain(data: RunReport, best: ModelScores, candidates: int) -> Iterator[str]:
    gain = best.against_base[OVERALL]
    yield (
        f"{best.model} against {data.baseline}: {signed(gain.difference)} points, 95% interval {signed(gain.low)} to "
        f"{signed(gain.high)}, {p_words(gain.p_value)}, paired over {gain.n} items: "
        f"{gain.fixed} answers became better and {gain.broken} worse."
    )
    if candidates > 1:
        yield (f"{best.model} is the best of {candidates} models on this suite, which flatters it a little; "
               "a held-out suite does not.")  # fmt: skip


def _tasks(data: RunReport, best: ModelScores) -> Iterator[str]:
    tasks = {task: change for task, change in best.against_base.items() if task != OVERALL}
    worse = [f"{task} ({signed(change.difference)})" for task, change in tasks.items() if judge(change) == "worse"]
    better = sum(judge(change) == "better" for change in tasks.values())
    if len(tasks) > 1:
        lost = f"worse on {joined(worse)}" if worse else "measurably worse on none"
        yield f"It is measurably better than {data.baseline} on {better} of {len(tasks)} tasks, and {lost}."


def _elsewhere(data: RunReport, best: ModelScores) -> Iterator[str]:
    """The same model on the other suites."""
    for row in data.scores:
        gain = row.against_base.get(OVERALL)
        if row.model == best.model and row.suite != best.suite and gain:
            yield (f"On {row.suite} it scores {percent(row.overall.mean)}, {signed(gain.difference)} points against "
                   f"{data.baseline} ({signed(gain.low)} to {signed(gain.high)}).")  # fmt: skip


def _curves(data: RunReport) -> Iterator[str]:
    """The best point of all test-time curves."""
    ends = [(curve, curve.points[-1]) for curve in data.curves if curve.points and curve.points[-1].n > 1]
    if not ends:
        return
    curve, last = max(ends, key=lambda end: end[1].accuracy.mean)
    times = last.tokens / curve.points[0].tokens if curve.points[0].tokens else 0
    cost = f" for {times:.1f} times the tokens" if times else ""
    yield (f"With {last.n} samples and {curve.strategy.replace('_', ' ')}, {curve.model} reaches "
           f"{percent(last.accuracy.mean)} on {curve.suite}, {signed(last.gain.difference)} points over one sample "
           f"({signed(last.gain.low)} to {signed(last.gain.high)}){cost}.")  # fmt: skip


def _unscored(data: RunReport) -> Iterator[str]:
    rows = [f"{row.overall.unscored} of {row.model} on {row.suite}" for row in data.scores if row.overall.unscored]
    if rows:
        yield f"Answers that could not be graded, and are in no mean: {joined(rows)}."
