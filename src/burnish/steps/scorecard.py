"""One verdict on each candidate from benchmarks, human votes and judges: promote it, hold it, or collect more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Ref
from burnish.errors import BurnishError, Problem
from burnish.evaluation.votes import VoteStore, content_digest
from burnish.log import note
from burnish.steps.base import BASE, Expectation, Inputs, Phase, Running, Step, View
from burnish.workspace import Artifact

if TYPE_CHECKING:
    from burnish.evaluation.scorecard import Evidence


class Scorecard(Step):
    """Joins all evidence on each model, says where it disagrees, and recommends what to do."""

    kind: ClassVar[str] = "decision"
    phase: ClassVar[Phase] = "evaluation"

    use: Literal["scorecard"]
    of: Annotated[list[str], Ref("step")] = Field(min_length=1)
    """The steps that measured: [$scores, $duel]."""
    votes: str | None = None
    """An arena's file of votes."""
    names: dict[str, str] = Field(default_factory=dict)
    """What models are called in the votes where that is not their name here: {base: pebble, dpo: mine:dpo}."""

    def outside(self) -> list[str]:
        return [content_digest(Path(self.votes))] if self.votes else []

    def content(self) -> dict[str, Any]:
        return {"names": self.names}  # what is joined are inputs, and the votes' hash

    def check(self, view: View) -> Iterator[Problem]:
        for place, ref in enumerate(self.of):
            step = view.step(ref)
            if step is not None and step.kind not in ("comparison", "duel"):
                yield Problem(f"{ref} makes a {step.kind}, which is no evidence", f"of.{place}",
                              "name `evaluate` and `duel` steps")  # fmt: skip
        yield from check_votes(self.votes, "votes")

    def expect(self, view: View) -> Expectation:
        return Expectation(seconds=2.0)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.evaluation.scorecard import decide

        evidence: dict[str, list[Evidence]] = {}
        for artifact in inputs.artifacts("of"):
            for model, one in _benchmarks(artifact) if artifact.manifest.kind == "comparison" else _duels(artifact):
                evidence.setdefault(model, []).append(one)
        for model, one in _votes(Path(self.votes), list(evidence), self.names) if self.votes else ():
            evidence[model].append(one)
        decisions = [decide(model, BASE, found) for model, found in evidence.items()]
        (run.folder / "decisions.json").write_text(json.dumps([asdict(one) for one in decisions], indent=2), "utf-8")
        said = "; ".join(f"{one.model}: {one.action}" for one in decisions)
        return {"decisions": [asdict(one) for one in decisions], "headline": said or "there is no candidate"}


def _benchmarks(artifact: Artifact) -> Iterator[tuple[str, Evidence]]:
    from burnish.evaluation.runner import OVERALL
    from burnish.evaluation.scorecard import from_benchmark
    from burnish.evaluation.stats import PairedDifference

    alarms = tuple(artifact.manifest.summary.get("card", {}).get("alarms", ()))
    for model, suites in artifact.manifest.summary["table"].items():
        for suite, row in suites.items():
            if model != BASE and OVERALL in row["against_base"]:
                found = PairedDifference(**row["against_base"][OVERALL])
                doubts = alarms if row.get("judged") else ()
                yield model, from_benchmark(suite, found, row["reports"][-1]["unscored"], doubts)


def _duels(artifact: Artifact) -> Iterator[tuple[str, Evidence]]:
    from burnish.evaluation.duels import corrected_from_row
    from burnish.evaluation.judge_card import card_from_row
    from burnish.evaluation.scorecard import from_corrected, from_judge
    from burnish.evaluation.stats import Estimate

    summary = artifact.manifest.summary
    card = card_from_row(summary["card"])
    for model, row in summary["duels"].items():
        yield model, from_judge(summary["judge"], Estimate(**row["wins"]), card, row["unscored"])
        if row["corrected"]:
            yield model, from_corrected(summary["judge"], corrected_from_row(row["corrected"]))


def check_votes(file: str | None, key: str) -> Iterator[Problem]:
    """What is wrong with a setting that names a file of votes."""
    if file and not Path(file).is_file():
        yield Problem(f"no such file: {file}", key, "`burnish arena` writes one; paths are relative to this folder")
    elif file:
        try:
            VoteStore(Path(file)).close()
        except BurnishError as error:
            yield Problem(f"{file}: {error.what}", key, "name a file of votes, such as `burnish arena` writes")


def _votes(path: Path, models: list[str], names: dict[str, str]) -> Iterator[tuple[str, Evidence]]:
    """Win rates over the baseline that a ranking of all votes implies, for models that votes connect with it."""
    from burnish.evaluation.ranking import battles, known_voters, rank, win_rate
    from burnish.evaluation.scorecard import from_votes

    rows, _ = known_voters(VoteStore(path).outcomes())
    base = names.get(BASE, BASE)
    groups = []
    if rows:
        ranking = rank(battles(rows))
        groups = [group for group in ranking.groups if base in group]
    for model in models:
        called = names.get(model, model)
        if any(called in group for group in groups):
            yield model, from_votes(path.name, win_rate(ranking, called, base))
        else:
            known = ", ".join(sorted({name for row in rows for name in row[:2]})) or "nobody"
            note(f"{path}: no vote compares {called} with {base}; it has votes on {known}. `names` says what models are"
                 " called there")  # fmt: skip
