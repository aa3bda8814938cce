"""Spend more tokens on each answer: accuracy against tokens for voting and best-of-n."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Table
from burnish.data.io import read_examples
from burnish.errors import EvaluationError, Problem
from burnish.evaluation.turns import is_conversation
from burnish.registry import distinct, split_choice, suggest
from burnish.rewards import is_judged
from burnish.steps.base import SUITE, Expectation, Inputs, ModelRef, Phase, Running, View
from burnish.steps.estimate import mean_tokens, work_done
from burnish.steps.measure import Decoding, check_models, count_answers, spend_look
from burnish.test_time import STRATEGIES
from burnish.types import Example


class TestTime(Decoding):
    """Sample several answers to each item of a suite, and let strategies pick one."""

    __test__: ClassVar[bool] = False  # the name would make pytest collect it

    kind: ClassVar[str] = "curves"
    phase: ClassVar[Phase] = "evaluation"

    use: Literal["test_time"]
    model: ModelRef
    """The model that answers."""
    suite: str = "dev"
    """The suite whose items it answers; items that are scored by log-probability or by a judge, and conversations of
    several turns, are left out and counted."""
    strategies: Annotated[list[Any], Table("burnish.test_time:STRATEGIES")] = Field(
        default_factory=lambda: ["majority", "best_of_n"], min_length=1
    )
    """How one of several answers is picked: majority, {best_of_n: {scorer: likelihood}}."""
    n: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1, 2, 4, 8], min_length=1)
    """Numbers of samples to report; the largest is drawn, the smaller ones are averaged over its subsets."""
    temperature: float = Field(default=0.8, gt=0)
    """Sampling temperature."""

    def content(self) -> dict[str, Any]:
        content = super().content()
        content.pop("suite")  # its items are an input; what it is called is not
        return content

    def references(self, name: str) -> dict[str, list[str]]:
        return {**super().references(name), "suite": [SUITE + self.suite]}

    def check(self, view: View) -> Iterator[Problem]:
        yield from check_models(view, [self.model], "model")
        if self.suite not in view.suites:
            yield Problem(f"there is no suite '{self.suite}'", "suite", suggest(self.suite, list(view.suites)))
            return
        items = [item for item in view.sample(SUITE + self.suite) if isinstance(item, Example)]
        if items and not any(map(_sampled, items)):
            why = "they are scored by log-probability, by a judge or over several turns"
            hint = "name a suite with items that are answered in words"
            yield Problem(f"no item of '{self.suite}' can be sampled: {why}", "suite", hint)

    def expect(self, view: View) -> Expectation:
        items = view.expect(SUITE + self.suite).rows
        answers = items * max(self.n) if items is not None else None
        prompt = mean_tokens(view.sample(SUITE + self.suite))
        return replace(self.answering(view, self.model, answers, prompt, self.max_tokens), rows=items)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.evaluation.runner import task_of
        from burnish.models.load import template_hash
        from burnish.rewards import grade
        from burnish.test_time.curve import Sampled, curve

        suite, model = inputs.artifact("suite"), inputs.model("model")
        spend_look(run, suite, self.model)
        every = read_examples(suite.file("items.jsonl"))
        items = [item for item in every if _sampled(item)]
        found = self.ask(model, [item.prompt for item in items], max(self.n), run.seed, run.folder / "samples.json")
        count_answers(run, found)
        samples = [
            Sampled(item.id, group, [grade(item, one.text) for one in group], *task_of(item))
            for item, group in zip(items, found, strict=True) if group
        ]  # fmt: skip
        too_long = len(items) - len(samples)
        if not samples:
            raise EvaluationError("no item of the suite fits the model's context", where=self.suite)
        curves = {}
        names = distinct([split_choice(choice, "strategy")[0] for choice in self.strategies])
        for name, choice in zip(names, self.strategies, strict=True):
            points = curve(samples, self.n, STRATEGIES.build(choice), seed=run.seed)
            curves[name] = [asdict(point) for point in points]
        (run.folder / "curves.json").write_text(json.dumps(curves, indent=2), encoding="utf-8")
        return {
            "curves": curves,
            "items": len(items),
            "left_out": len(every) - len(items),
            "too_long": too_long,
            "template": template_hash(model),
            **work_done(len(items) * max(self.n), model),
            "headline": _headline(curves) + (f"; {too_long} items too long for the model" if too_long else ""),
        }


def _sampled(item: Example) -> bool:
    """Whether single answers to an item can be drawn and graded by rule."""
    return not item.choices and not is_conversation(item) and not is_judged(item.grader)


def _headline(curves: dict[str, list[dict[str, Any]]]) -> str:
    parts = [
        f"{name} {points[0]['accuracy']['mean']:.1%} at n={points[0]['n']}"
        f" to {points[-1]['accuracy']['mean']:.1%} at n={points[-1]['n']}"
        for name, points in curves.items()
    ]
    return "; ".join(parts)
