"""Compare models on frozen suites: each measured once, each paired with the baseline item by item."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.data.io import read_examples
from burnish.errors import Problem
from burnish.judges import JUDGES
from burnish.steps.base import BASE, SUITE, Expectation, Inputs, ModelRefs, Phase, Running, Step, View
from burnish.steps.measure import Grading, Measure, count_usage, only_judged
from burnish.types import Example

if TYPE_CHECKING:
    from burnish.evaluation.judge_card import JudgeCard
    from burnish.evaluation.runner import Outcome

TESTED = 20
"""Pairs that a judge is asked about again, and items that are answered with answers to nothing."""


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
        scores = {"scores": [f"${part}" for part in self.parts(name)]}
        if self.judge is None:
            return scores
        return {**scores, "judge": [self.judge.model], "suites": [SUITE + suite for suite in self.suites]}

    def content(self) -> dict[str, Any]:
        how = {"judge": self.judge.how} if self.judge else {}
        return {"models": self._labels(), "suites": self.suites, **how}

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
        answers: dict[str, dict[str, list[Outcome]]] = {suite: {} for suite in self.suites}
        for label in self._labels():
            for suite in self.suites:
                artifact = next(scores)
                outcomes = read_outcomes(artifact.file("outcomes.jsonl"))
                answers[suite][label] = outcomes
                if label == BASE:
                    baseline[suite] = outcomes
                table[label][suite] = {
                    "reports": artifact.manifest.summary["reports"],
                    "against_base": {task: asdict(difference) for task, difference
                                     in compare(baseline[suite], outcomes).items()},
                    "scores": artifact.id,
                    **({"judged": True} if any(one.judged for one in outcomes) else {}),
                }  # fmt: skip
        card = self._card(inputs, answers, run) if self.judge else None
        (run.folder / "comparison.json").write_text(json.dumps(table, indent=2), encoding="utf-8")
        suite = self.suites[0]
        overall = {label: table[label][suite]["reports"][-1] for label in self._labels()}
        scored = [label for label, row in overall.items() if row["n"]]
        best = max(scored, key=lambda label: overall[label]["mean"], default=None)
        said = f"best on {suite}: {best}, {overall[best]['mean']:.1%}" if best else f"no scores on {suite}: no judge"
        judged = {"judge": inputs.names["judge"][0], "card": asdict(card)} if card else {}
        return {"table": table, **judged, "headline": said}

    def _card(self, inputs: Inputs, answers: dict[str, dict[str, list[Outcome]]], run: Running) -> JudgeCard | None:
        """What the judge's ratings of these answers are worth; None when it rated no two answers to one item."""
        from burnish.engines.opening import open_judge
        from burnish.engines.reward import RewardEngine
        from burnish.evaluation.judging import card_of, rated_pairs, say_alarms

        assert self.judge is not None
        items: dict[str, Example] = {}
        pairs = []
        for suite, frozen in zip(self.suites, inputs.artifacts("suites"), strict=True):
            # Two suites may hold tasks, and so ids, of one name.
            items |= {f"{suite}/{item.id}": item for item in read_examples(frozen.file("items.jsonl"))}
            pairs += [replace(pair, id=f"{suite}/{pair.id}") for pair in rated_pairs(answers[suite], BASE)]
        if not pairs:
            return None
        engine = open_judge(inputs.model("judge"), batch_tokens=self.batch_tokens, kept=run.store.responses)
        how = JUDGES.build(self.judge.how or ("reward" if isinstance(engine, RewardEngine) else "pointwise"))
        card = card_of(how, engine, items, pairs, retest=TESTED, null=TESTED)
        count_usage(run, engine)
        say_alarms(card)
        return card
