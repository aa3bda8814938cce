"""One verdict from all there is: benchmarks, human votes, judges and direct comparisons of two models.

Each piece of evidence is a candidate's lead over the baseline with an interval, on a scale where 0 means equal: points
on a benchmark, or twice the win rate minus one. They are not averaged, since they measure different things. The
decision follows from what each can say with confidence:

- promote: at least one piece shows a gain, and none that counts shows a loss;
- hold: one that counts shows a loss, or all are sure that there is no gain worth having;
- collect more: nothing is sure yet; it says what to collect.

People's votes outrank a judge's, and a judge counts only when its card raises no alarm. A benchmark's gain does not
count either when people, who are sure enough of it, see nothing of that size: its items may have been in the training
data, or it may measure what nobody notices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from burnish.evaluation.judge_card import JudgeCard
from burnish.evaluation.stats import Corrected, Estimate, PairedDifference, Z

Source = Literal["benchmark", "votes", "judge", "corrected"]
Action = Literal["promote", "hold", "collect more"]
Finding = Literal["better", "worse", "equal", "unclear"]
WORTH = 0.01
"""The least lead that is worth a change: intervals wholly within +-WORTH mean equal."""
ALPHA = 0.05
"""Largest p-value at which a difference is sure."""
KINDS: dict[Source, str] = {
    "benchmark": "benchmark", "votes": "human votes", "judge": "judge",
    "corrected": "judge corrected by human labels",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """A candidate's lead over the baseline by one way of measuring."""

    source: Source
    name: str
    """The suite, the arena or the judge."""
    lead: float
    """-1 to 1: a difference of accuracy, or twice the win rate minus one."""
    low: float
    high: float
    n: int
    unscored: int = 0
    doubts: tuple[str, ...] = ()
    """Why it does not count, such as a judge's alarms."""
    p_value: float | None = None
    """Of the test of no difference, where there was one: of few items it knows more than the interval."""

    @property
    def finding(self) -> Finding:
        sure = self.p_value is None or self.p_value <= ALPHA
        if self.low > 0:
            return "better" if sure else "unclear"
        if self.high < 0:
            return "worse" if sure else "unclear"
        return "equal" if max(abs(self.low), abs(self.high)) < WORTH else "unclear"

    @property
    def counts(self) -> bool:
        return not self.doubts


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a candidate, and why."""

    model: str
    baseline: str
    action: Action
    reason: str
    disagreements: tuple[str, ...]
    """Where pieces of evidence contradict each other."""
    advice: tuple[str, ...]
    """What would settle what is open."""
    evidence: tuple[Evidence, ...]


# ------------------------------------------------------------------------------------------------------------- evidence


def from_benchmark(name: str, found: PairedDifference, unscored: int = 0, doubts: tuple[str, ...] = ()) -> Evidence:
    """A paired difference on a suite; `doubts` are its judge's alarms, where a judge graded it."""
    return Evidence("benchmark", name, found.difference, found.low, found.high, found.n, unscored, doubts,
                    found.p_value)  # fmt: skip


def from_votes(name: str, wins: Estimate, unscored: int = 0) -> Evidence:
    """The share of human votes that prefer the candidate, ties half."""
    return Evidence("votes", name, *_lead(wins), wins.n, unscored)


def from_judge(name: str, wins: Estimate, card: JudgeCard | None, unscored: int = 0) -> Evidence:
    """A judge's win rate; without a card that shows it can be trusted, it counts with a doubt."""
    doubts = ("its judge card is missing",) if card is None else card.alarms
    return Evidence("judge", name, *_lead(wins), wins.n, unscored, doubts)


def from_corrected(name: str, wins: Corrected) -> Evidence:
    """A judge's win rate with its bias taken out by human labels: it counts whatever the judge's habits are."""
    return Evidence("corrected", name, *_lead(wins.estimate), wins.estimate.n)


def _lead(wins: Estimate) -> tuple[float, float, float]:
    return 2 * wins.mean - 1, 2 * wins.low - 1, 2 * wins.high - 1


def decision_from_row(row: Mapping[str, Any]) -> Decision:
    """A decision from the form of `dataclasses.asdict`."""
    evidence = tuple(Evidence(**{**one, "doubts": tuple(one["doubts"])}) for one in row["evidence"])
    lists = {key: tuple(row[key]) for key in ("disagreements", "advice")}
    return Decision(**{**row, **lists, "evidence": evidence})


# ------------------------------------------------------------------------------------------------------------- decision


def decide(model: str, baseline: str, evidence: Sequence[Evidence]) -> Decision:
    """What the evidence recommends for a candidate."""
    evidence = [_doubted(one, evidence) for one in evidence]
    counting = [one for one in evidence if one.counts]
    better = [one for one in counting if one.finding == "better"]
    worse = [one for one in counting if one.finding == "worse"]
    action, reason = _action(model, baseline, counting, better, worse)
    return Decision(model, baseline, action, reason, tuple(_disagreements(evidence)), tuple(_advice(evidence, action)),
                    tuple(evidence))  # fmt: skip


def _doubted(one: Evidence, evidence: Sequence[Evidence]) -> Evidence:
    """A benchmark's gain with a doubt, where people's preferences leave out a gain of that size and show none."""
    people = [other for other in evidence if other.source in ("votes", "corrected")]
    against = [other for other in people if other.finding in ("unclear", "equal") and other.high < one.low]
    if one.source != "benchmark" or one.finding != "better" or not against:
        return one
    return replace(one, doubts=(*one.doubts, f"people see no gain of that size: {_said(against[0])}"))


def _action(model: str, baseline: str, counting: Sequence[Evidence], better: Sequence[Evidence],
            worse: Sequence[Evidence]) -> tuple[Action, str]:  # fmt: skip
    if not counting:
        return "collect more", f"nothing that can be trusted compares {model} with {baseline}"
    if worse:
        said = "; ".join(_said(one) for one in worse)
        also = f", although it gains by {_names(better)}" if better else ""
        return "hold", f"{model} is worse than {baseline} by {said}{also}"
    if better:
        rest = [one for one in counting if one not in better]
        also = f"; {_names(rest)} cannot tell them apart" if rest else ""
        return "promote", f"{model} is better than {baseline} by {'; '.join(_said(one) for one in better)}{also}"
    if all(one.finding == "equal" for one in counting):
        return "hold", f"{model} and {baseline} are equal to within {100 * WORTH:g} point"
    return "collect more", f"no evidence tells {model} and {baseline} apart yet"


def _said(one: Evidence) -> str:
    return f"{KINDS[one.source]} {one.name} ({100 * one.lead:+.1f}, {100 * one.low:+.1f} to {100 * one.high:+.1f})"


def _names(rows: Sequence[Evidence]) -> str:
    return " and ".join(f"{KINDS[one.source]} {one.name}" for one in rows)


def _disagreements(evidence: Sequence[Evidence]) -> Iterator[str]:
    for place, one in enumerate(evidence):
        for other in evidence[place + 1 :]:
            if {one.finding, other.finding} == {"better", "worse"}:
                yield f"{_said(one)} and {_said(other)} contradict each other"
    for one in evidence:
        if one.doubts and one.finding in ("better", "worse"):
            yield f"{_said(one)} does not count: {one.doubts[0]}"


def _advice(evidence: Sequence[Evidence], action: Action) -> Iterator[str]:
    """What is missing, and how much of it."""
    counting = [one for one in evidence if one.counts]
    if action == "collect more":
        for one in counting:
            if one.finding == "unclear" and (needed := _needed(one)):
                yield f"{KINDS[one.source]} {one.name}: about {needed:,} items in all would settle a lead like this one"
    kinds = {one.source for one in counting}
    if not kinds & {"votes", "corrected"}:
        yield "no person has compared their answers: `burnish arena` collects votes, and 50 correct a judge"
    if any(one.doubts and one.source == "judge" for one in evidence) and "corrected" not in kinds:
        yield "label some pairs by hand: a corrected judge counts in spite of its habits"
    if any(one.doubts and one.source == "benchmark" for one in evidence):
        yield "measure on items that were made after training: the benchmark's own may have been in the training data"


def _needed(one: Evidence) -> int | None:
    """Items at which the interval around the same lead would leave out zero."""
    half = (one.high - one.low) / 2
    if not one.lead or not math.isfinite(half):
        return None
    return math.ceil(one.n * (half / abs(one.lead)) ** 2 * ((Z + 0.84) / Z) ** 2)
