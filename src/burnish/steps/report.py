"""Build the report page from the artifacts of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish import hardware
from burnish.config import Ref
from burnish.data.io import read_examples
from burnish.evaluation.judge_card import JudgeCard, card_from_row
from burnish.evaluation.report import (
    DRAWN,
    PAGE_FILES,
    Curve,
    Flow,
    Loss,
    ModelScores,
    Origin,
    RunReport,
    Sample,
    build_report,
    side_by_side,
)
from burnish.evaluation.runner import Report, read_outcomes
from burnish.evaluation.scorecard import decision_from_row
from burnish.evaluation.stats import PairedDifference, point_from_row
from burnish.ledger import ledger
from burnish.steps.base import BASE, BASELINE, SUITE, Expectation, Inputs, Phase, Running, Step, View
from burnish.workspace import Artifact, file_digest, write_atomic

SAMPLES = 18
"""Conversations that a page shows."""

Named = tuple[str, Artifact]
"""A step's name in the recipe, and what it made."""


class ReportStep(Step):
    """One self-contained HTML page, readable offline, and the same as Markdown."""

    kind: ClassVar[str] = "report"
    phase: ClassVar[Phase] = "report"

    use: Literal["report"]
    title: str | None = None
    """Headline of the page; the recipe's name when left out."""
    recipe: str | None = None
    """The recipe as the page shows it; its own text when left out."""
    of: Annotated[list[str], Ref("step")] = Field(default_factory=list)
    """The steps it is about: [$sft, $scores]. All of them when left out."""

    def outside(self) -> list[str]:
        return [file_digest(PAGE_FILES / name) for name in ("page.html", "head.html", "style.css")]

    def expect(self, view: View) -> Expectation:
        return Expectation(seconds=2.0, disk_mib=1.0)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        named = list(zip(inputs.names["of"], inputs.artifacts("of"), strict=True))
        return write_report(self.title or "", named, self.recipe or "", run.folder)


def write_report(title: str, named: Sequence[Named], recipe: str, folder: Path) -> dict[str, Any]:
    """Write report.html and report.md into a folder; returns the manifest's summary."""
    html, text = build_report(gather(title, named, recipe))
    write_atomic(folder / "report.html", html)
    write_atomic(folder / "report.md", text)
    return {"headline": f"report.html, {len(html) / 1024:.0f} KiB"}


def gather(title: str, named: Sequence[Named], recipe: str) -> RunReport:
    """What the artifacts of a run say, as the data of a page. An unfinished run gives what it has."""
    names = _names(named)
    manifests = [artifact.manifest for _, artifact in named]
    return RunReport(
        title=title,
        baseline=BASE,
        scores=list(_scores(named)),
        suites=_suites(named),
        decisions=[
            decision_from_row(row)
            for _, artifact in _of_kind(named, "decision")
            for row in artifact.manifest.summary["decisions"]
        ],
        judges=[
            _judge_card(artifact)
            for _, artifact in named
            if "judge" in artifact.manifest.summary and _card_key(artifact) in artifact.manifest.summary
        ],
        curves=list(_curves(named, names)),
        losses=[loss for name, artifact in named if (loss := _loss(name, artifact))],
        flows=[_flow(name, artifact) for name, artifact in named if artifact.manifest.kind == "dataset"],
        samples=_samples(named),
        samples_note=DRAWN,
        ledger=ledger((name, artifact.manifest) for name, artifact in named),
        pedigree=_pedigree(named, names),
        environment={**manifests[-1].versions, **hardware.describe()} if manifests else {},
        recipe=recipe,
        made_at=max((manifest.made_at for manifest in manifests), default="").replace("T", " "),
    )


def _names(named: Sequence[Named]) -> dict[str, str]:
    """What the recipe calls an artifact id, or the fingerprint of the base."""
    names: dict[str, str] = {}
    for name, artifact in named:
        names.setdefault(artifact.id, name)
        if artifact.manifest.kind == "scores" and name.startswith(BASELINE):
            names.setdefault(artifact.manifest.inputs["model"][0], BASE)
    return names


def _card_key(artifact: Artifact) -> str:
    """Where a judge's card stands in a summary; in a dataset's, `card` is that of the data."""
    return "judge_card" if artifact.manifest.kind == "dataset" else "card"


def _judge_card(artifact: Artifact) -> JudgeCard:
    facts = artifact.manifest.summary
    return replace(card_from_row(facts[_card_key(artifact)]), judge=facts["judge"])


def _of_kind(named: Sequence[Named], kind: str) -> Iterator[Named]:
    return (row for row in named if row[1].manifest.kind == kind)


# ----------------------------------------------------------------------------------------------------------- evaluation


def _scores(named: Sequence[Named]) -> Iterator[ModelScores]:
    """Each model on each suite once; the baseline alone where nothing was compared yet."""
    seen: set[tuple[str, str]] = set()
    for _, artifact in _of_kind(named, "comparison"):
        for model, suites in artifact.manifest.summary["table"].items():
            for suite, row in suites.items():
                if (model, suite) not in seen:
                    seen.add((model, suite))
                    gains = {task: PairedDifference(**gain) for task, gain in row["against_base"].items()}
                    reports = [Report(**report) for report in row["reports"]]
                    yield ModelScores(model, suite, reports, {} if model == BASE else gains)
    for name, artifact in _of_kind(named, "scores"):
        suite = name.removeprefix(BASELINE)
        if suite != name and (BASE, suite) not in seen:
            yield ModelScores(BASE, suite, [Report(**report) for report in artifact.manifest.summary["reports"]])


def _suites(named: Sequence[Named]) -> dict[str, str]:
    looks: dict[str, tuple[int, int]] = {}
    for _, artifact in [*_of_kind(named, "scores"), *_of_kind(named, "curves")]:
        mark = artifact.file("look.json")
        if mark.exists():
            suite, said = artifact.manifest.inputs["suite"][0], json.loads(mark.read_text(encoding="utf-8"))
            looks[suite] = max(looks.get(suite, (0, 0)), (said["look"], said["of"]))
    about = {}
    for name, artifact in _of_kind(named, "suite"):
        facts = artifact.manifest.summary
        held = "; held out, look {} of {}".format(*looks[artifact.id]) if artifact.id in looks else ""
        items = f"{facts['rows']} items of {len(facts['tasks'])} tasks"
        about[name.removeprefix(SUITE)] = f"{items}, frozen before training{held}"
    return about


def _curves(named: Sequence[Named], names: dict[str, str]) -> Iterator[Curve]:
    for _, artifact in _of_kind(named, "curves"):
        model, suite = (artifact.manifest.inputs[label][0] for label in ("model", "suite"))
        for strategy, points in artifact.manifest.summary["curves"].items():
            yield Curve(names.get(model, model[:12]), names.get(suite, suite).removeprefix(SUITE), strategy,
                        [point_from_row(point) for point in points])  # fmt: skip


def _samples(named: Sequence[Named]) -> list[Sample]:
    """Answers of every compared model to items of the first suite."""
    by_id = {artifact.id: artifact for _, artifact in named}
    for _, comparison in _of_kind(named, "comparison"):
        table = comparison.manifest.summary["table"]
        suite = next(iter(table[BASE]))
        scored = {model: by_id.get(suites[suite]["scores"]) for model, suites in table.items()}
        found = {model: artifact for model, artifact in scored.items() if artifact is not None}
        frozen = by_id.get(found[BASE].manifest.inputs["suite"][0]) if BASE in found else None
        if frozen is not None:
            outcomes = {model: read_outcomes(artifact.file("outcomes.jsonl")) for model, artifact in found.items()}
            return side_by_side(read_examples(frozen.file("items.jsonl")), outcomes, SAMPLES)
    return []


# ------------------------------------------------------------------------------------------ training, data and pedigree


def _loss(name: str, artifact: Artifact) -> Loss | None:
    file = artifact.file("metrics.jsonl")
    if not file.exists():
        return None
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    points = [(int(row["step"]) + 1, float(row["loss"])) for row in rows]
    unit = artifact.manifest.summary["unit"]
    return Loss(name, points, "nats a token" if unit == "token" else f"mean over {unit}s")


def _flow(name: str, artifact: Artifact) -> Flow:
    facts = artifact.manifest.summary
    note = f"chosen is longer in {facts['longer_chosen']:.0%}" if "longer_chosen" in facts else ""
    return Flow(name, facts["rows_in"], facts["rows"], facts["dropped"], note)


def _pedigree(named: Sequence[Named], names: dict[str, str]) -> list[Origin]:
    """Where each artifact came from; one that has several names is listed under its first."""
    return [
        Origin(name, artifact.manifest.use, artifact.id,
               [names.get(one, one[:12]) for ids in artifact.manifest.inputs.values() for one in ids],
               artifact.manifest.seed, artifact.manifest.seconds, artifact.manifest.made_at, artifact.manifest.code)
        for name, artifact in named if names[artifact.id] == name
    ]  # fmt: skip
