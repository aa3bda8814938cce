"""Compare models on frozen suites: each measured once, each paired with the baseline item by item."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from pydantic import Field

from burnish.errors import Problem
from burnish.steps.base import BASE, SUITE, Expectation, Inputs, ModelRefs, Phase, Running, Step, View
from burnish.steps.measure import Grading, Measure, only_judged
from burnish.types import Example


class Evaluate(Grading):
    """Mean, standard error and interval of each model on each task, and its paired difference to the baseline."""

    kind: ClassVar[str] = "comparison"
    phase: ClassVar[Phase] = "evaluation"

    use: Literal["evaluate"]
    models: ModelRefs = Field(min_length=1)
    """The models: [base, $sft, $dpo]. The base is measured in any case."""
    suites: list[str] = Field(min_length=1)
    """Names of suites."""

    def _labels(self) -> list[str]:
        return [BASE, *(ref.removeprefix("$") for ref in self.models if ref != BASE)]

    def parts(self, name: str) -> dict[str, Step]:
        """A measurement for each model and suite."""
        settings = self.model_dump(exclude={"use", "models", "suites"})
        refs = [BASE, *(ref for ref in self.models if ref != BASE)]
        return {
            f"{name}/{label}@{suite}": Measure(use="measure", model=ref, suite=suite, **settings)
            for label, ref in zip(self._labels(), refs, strict=True)
            for suite in self.suites
        }

    def references(self, name: str) -> dict[str, list[str]]:
        return {"scores": [f"${part}" for part in self.parts(name)]}

    def content(self) -> dict[str, Any]:
        return {"models": self._labels(), "suites": self.suites}

    def check(self, view: View) -> Iterator[Problem]:
        if len(set(self._labels())) != len(self._labels()):
            yield Problem("a model is named twice", "models", "name each model once")
        items = [item for suite in self.suites for item in view.sample(SUITE + suite) if isinstance(item, Example)]
        if self.judge is None and items and all(map(only_judged, items)):
            yield Problem("only a judge can score these items, and none is named", "suites",
                          "judge: {model: REF}, or --judge MODEL")  # fmt: skip

    def expect(self, view: View) -> Expectation:
        return Expectation(seconds=1.0)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.evaluation.runner import compare, read_outcomes

        scores = iter(inputs.artifacts("scores"))
        table: dict[str, dict[str, Any]] = {label: {} for label in self._labels()}
        baseline: dict[str, Any] = {}
        for label in self._labels():
            for suite in self.suites:
                artifact = next(scores)
                outcomes = read_outcomes(artifact.file("outcomes.jsonl"))
                if label == BASE:
                    baseline[suite] = outcomes
                table[label][suite] = {
                    "reports": artifact.manifest.summary["reports"],
                    "against_base": {task: asdict(difference) for task, difference
                                     in compare(baseline[suite], outcomes).items()},
                    "scores": artifact.id,
                }  # fmt: skip
        (run.folder / "comparison.json").write_text(json.dumps(table, indent=2), encoding="utf-8")
        suite = self.suites[0]
        overall = {label: table[label][suite]["reports"][-1] for label in self._labels()}
        scored = [label for label, row in overall.items() if row["n"]]
        best = max(scored, key=lambda label: overall[label]["mean"], default=None)
        said = f"best on {suite}: {best}, {overall[best]['mean']:.1%}" if best else f"no scores on {suite}: no judge"
        return {"table": table, "headline": said}
