"""What a report shows, as plain data. Every part may be empty; the page leaves out what is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from burnish.evaluation.judge_card import JudgeCard
from burnish.evaluation.runner import OVERALL, Report
from burnish.evaluation.scorecard import Decision
from burnish.evaluation.stats import PairedDifference, Point
from burnish.ledger import LedgerRow
from burnish.types import Message


@dataclass(frozen=True, slots=True)
class ModelScores:
    """One model on one suite."""

    model: str
    suite: str
    reports: Sequence[Report]
    """A row for each task, and `overall`."""
    against_base: Mapping[str, PairedDifference] = field(default_factory=dict)
    """Paired differences to the baseline by task; empty for the baseline itself."""

    @property
    def overall(self) -> Report:
        return self.report(OVERALL)

    def report(self, task: str) -> Report:
        return next(report for report in self.reports if report.task == task)


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy against tokens for one strategy."""

    model: str
    suite: str
    strategy: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a training step."""

    step: str
    points: Sequence[tuple[int, float]]
    """(optimiser step, loss)."""
    unit: str = "nats a token"


@dataclass(frozen=True, slots=True)
class Flow:
    """How many rows went into a data step, how many came out, and why the others did not."""

    step: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows. Where a step makes other rows than it reads (pairs of prompts), reasons need not add up."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model said to a sample."""

    model: str
    text: str
    value: float | None
    """Its grade; None when it could not be graded."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One item and the answers of several models, side by side."""

    task: str
    messages: Sequence[Message]
    target: str
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one artifact came from."""

    step: str
    use: str
    id: str
    inputs: Sequence[str]
    seed: int
    seconds: float
    made_at: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that is on the page."""

    title: str
    baseline: str = "base"
    """The name of the model that the others are compared with."""
    scores: Sequence[ModelScores] = ()
    """The first suite is the one the verdict speaks about."""
    suites: Mapping[str, str] = field(default_factory=dict)
    """A few words on a suite: '450 items, frozen', '300 items, look 1 of 3'."""
    curves: Sequence[Curve] = ()
    losses: Sequence[Loss] = ()
    flows: Sequence[Flow] = ()
    samples: Sequence[Sample] = ()
    samples_note: str = ""
    """How they were chosen."""
    ledger: Sequence[LedgerRow] = ()
    pedigree: Sequence[Origin] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    made_at: str = ""
    decisions: Sequence[Decision] = ()
    """What the scorecard recommends for each candidate."""
    judges: Sequence[JudgeCard] = ()
    """What the judges in use are worth."""
    remarks: Sequence[str] = ()
    """Further sentences below the verdict."""

    def suite_names(self) -> list[str]:
        return list(dict.fromkeys(row.suite for row in self.scores))

    def on(self, suite: str) -> list[ModelScores]:
        """The models on one suite, in the order they were given."""
        return [row for row in self.scores if row.suite == suite]

    def models(self) -> list[str]:
        """Every model that is named anywhere, the baseline first, so that each keeps its colour on the whole page."""
        named = [row.model for row in self.scores]
        named += [curve.model for curve in self.curves]
        named += [answer.model for sample in self.samples for answer in sample.answers]
        return list(dict.fromkeys([self.baseline, *named]))
