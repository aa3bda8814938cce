"""The report as Markdown: the same facts as tables, for places where HTML cannot go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from burnish.evaluation.judge_card import findings
from burnish.evaluation.report.data import RunReport, Sample
from burnish.evaluation.report.verdict import verdict
from burnish.evaluation.report.words import count, duration, percent, shortened, signed
from burnish.evaluation.scorecard import KINDS

TEXT = 1500
SAMPLES = 8


def markdown(data: RunReport) -> str:
    """The page as Markdown."""
    sections = (_opening, _scores, _decisions, _judges, _curves, _ledger, _data, _training, _samples, _pedigree)
    parts = [part for section in sections for part in section(data)]
    return "\n\n".join(parts) + "\n"


def _opening(data: RunReport) -> Iterator[str]:
    said = verdict(data)
    yield f"# {_cell(data.title)}"
    yield f"**{_cell(said.headline)}**"
    if said.details:
        yield "\n".join(f"- {_cell(detail)}" for detail in said.details)


def _scores(data: RunReport) -> Iterator[str]:
    for suite in data.suite_names():
        about = f" ({data.suites[suite]})" if data.suites.get(suite) else ""
        yield f"## Accuracy on {_cell(suite + about)}"
        rows = data.on(suite)
        body = []
        for task in (report.task for report in rows[0].reports):
            for row in rows:
                report, change = row.report(task), row.against_base.get(task)
                gained = (
                    f"{signed(change.difference)} ({signed(change.low)} to {signed(change.high)})" if change else ""
                )
                body.append([task, row.model, percent(report.mean), f"{percent(report.low)} to {percent(report.high)}",
                             str(report.n), str(report.unscored), gained])  # fmt: skip
        yield _table(["task", "model", "mean", "95% interval", "items", "unscored", "points against the base"], body)


def _decisions(data: RunReport) -> Iterator[str]:
    for decision in data.decisions:
        yield f"## What to do with {_cell(decision.model)}: {decision.action}"
        yield f"{_cell(decision.reason)}."
        body = [
            [KINDS[one.source], one.name, signed(one.lead), f"{signed(one.low)} to {signed(one.high)}", str(one.n),
             "; ".join(one.doubts)]
            for one in decision.evidence
        ]  # fmt: skip
        yield _table(["evidence", "on", "lead over the base", "95% interval", "items", "doubts"], body)
        if lines := [*decision.disagreements, *decision.advice]:
            yield "\n".join(f"- {_cell(line)}" for line in lines)


def _judges(data: RunReport) -> Iterator[str]:
    for card in data.judges:
        yield f"## Judge card: {_cell(card.judge)}"
        yield f"{card.pairs} pairs judged, {card.unscored} unscored."
        if card.alarms:
            yield "\n".join(f"- **{_cell(alarm)}**" for alarm in card.alarms)
        body = [[label, f"{found.mean:.2f}", f"{found.low:.2f} to {found.high:.2f}", str(found.n)]
                for label, found in findings(card)]  # fmt: skip
        yield _table(["finding", "rate", "95% interval", "pairs"], body)


def _curves(data: RunReport) -> Iterator[str]:
    if data.curves:
        yield "## More samples"
        body = [
            [curve.model, curve.suite, curve.strategy, str(point.n), count(point.tokens), percent(point.accuracy.mean),
             f"{percent(point.accuracy.low)} to {percent(point.accuracy.high)}", signed(point.gain.difference),
             percent(point.ceiling.mean)]
            for curve in data.curves for point in curve.points
        ]  # fmt: skip
        yield _table(["model", "suite", "strategy", "n", "tokens a question", "accuracy", "95% interval",
                      "points over one sample", "pass@n"], body)  # fmt: skip


def _ledger(data: RunReport) -> Iterator[str]:
    if data.ledger:
        yield "## Where the time went"
        body = [[row.step, row.phase, duration(row.seconds), count(row.prompt_tokens), count(row.completion_tokens),
                 count(row.trained_tokens)] for row in data.ledger]  # fmt: skip
        yield _table(["step", "phase", "time", "tokens read", "written", "trained"], body)


def _data(data: RunReport) -> Iterator[str]:
    if data.flows:
        yield "## Data"
        body = [[flow.step, f"{flow.rows_in:,}", f"{flow.rows_out:,}",
                 ", ".join(f"{reason}: {number:,}" for reason, number in flow.dropped.items()), flow.note]
                for flow in data.flows]  # fmt: skip
        yield _table(["step", "rows in", "rows out", "left out", ""], body)


def _training(data: RunReport) -> Iterator[str]:
    if data.losses:
        yield "## Training"
        body = [[loss.step, f"{loss.points[0][1]:.4f}", f"{loss.points[-1][1]:.4f}", str(loss.points[-1][0]), loss.unit]
                for loss in data.losses if loss.points]  # fmt: skip
        yield _table(["step", "loss of the first step", "of the last", "steps", "unit"], body)


def _samples(data: RunReport) -> Iterator[str]:
    if data.samples:
        yield "## Samples"
        for sample in data.samples[:SAMPLES]:
            yield _sample(sample)


def _sample(sample: Sample) -> str:
    parts = [f"### {_cell(sample.task)}"]
    parts += [f"{message.role}:\n\n{_fenced(message.content)}" for message in sample.messages]
    if sample.target:
        parts.append(f"expected:\n\n{_fenced(sample.target)}")
    for answer in sample.answers:
        grade = "unscored" if answer.value is None else f"score {answer.value:g}"
        parts.append(f"**{_cell(answer.model)}** ({grade}):\n\n{_fenced(answer.text)}")
    return "\n\n".join(parts)


def _pedigree(data: RunReport) -> Iterator[str]:
    if data.pedigree:
        yield "## Pedigree"
        body = [[row.step, row.use, f"`{row.id[:12]}`", ", ".join(row.inputs), str(row.seed), row.made_at]
                for row in data.pedigree]  # fmt: skip
        yield _table(["step", "type", "artifact", "made from", "seed", "made at"], body)
    if data.environment:
        yield _table(["environment", ""], [[key, value] for key, value in data.environment.items()])
    if data.recipe:
        yield f"## Recipe\n\n{_fenced(data.recipe, 'yaml')}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in body)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(text: str) -> str:
    """Text on one line in which Markdown finds no tags, links, images or columns."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([|\[\]*\\])", r"\\\1", flat)


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shortened(text, TEXT)}\n{fence}"
