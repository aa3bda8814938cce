"""Spend more tokens on each answer: accuracy against tokens for voting and best-of-n."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Table
from burnish.data.io import read_examples
from burnish.errors import Problem
from burnish.registry import split_choice, suggest
from burnish.steps.base import SUITE, Expectation, Inputs, ModelRef, Phase, Running, View
from burnish.steps.estimate import mean_tokens, work_done
from burnish.steps.measure import Decoding, count_answers, spend_look
from burnish.test_time import STRATEGIES
from burnish.types import Sampling
from burnish.workspace import Artifact


class TestTime(Decoding):
    """Sample several answers to each item of a suite, and let strategies pick one."""

    __test__: ClassVar[bool] = False  # the name would make pytest collect it

    kind: ClassVar[str] = "curves"
    phase: ClassVar[Phase] = "evaluation"

    use: Literal["test_time"]
    model: ModelRef
    """The model that answers."""
    suite: str = "dev"
    """The suite whose items it answers; items that are scored by log-probability are left out, and counted."""
    strategies: Annotated[list[Any], Table("burnish.test_time:STRATEGIES")] = Field(
        default_factory=lambda: ["majority", "best_of_n"], min_length=1
    )
    """How one of several answers is picked: majority, {best_of_n: {scorer: likelihood}}."""
    n: list[int] = Field(default_factory=lambda: [1, 2, 4, 8], min_length=1)
    """Numbers of samples to report; the largest is drawn, the smaller ones are averaged over its subsets."""
    temperature: float = Field(default=0.8, gt=0)
    """Sampling temperature."""

    def references(self, name: str) -> dict[str, list[str]]:
        return {**super().references(name), "suite": [SUITE + self.suite]}

    def check(self, view: View) -> Iterator[Problem]:
        if self.suite not in view.suites:
            yield Problem(f"there is no suite '{self.suite}'", "suite", suggest(self.suite, list(view.suites)))

    def expect(self, view: View) -> Expectation:
        items = view.expect(SUITE + self.suite).rows
        answers = items * max(self.n) if items is not None else None
        prompt = mean_tokens(view.sample(SUITE + self.suite))
        return replace(self.answering(view, self.model, answers, prompt, self.max_tokens), rows=items)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.engines.cache import load_completions, save_completions
        from burnish.engines.local import open_engine
        from burnish.rewards import grade
        from burnish.test_time.curve import Sampled, curve

        suite = inputs.artifact("suite")
        if suite.manifest.summary["looks"] is not None and isinstance(inputs.found["model"][0], Artifact):
            spend_look(run, suite.id, suite.manifest.summary["looks"])
        every = read_examples(suite.file("items.jsonl"))
        items = [item for item in every if not item.choices]
        kept = run.folder / "samples.json"
        if not kept.exists():
            engine = open_engine(inputs.model("model"), batch_tokens=self.batch_tokens)
            sampling = Sampling(self.max_tokens, self.temperature, seed=run.seed)
            save_completions(kept, engine.generate([item.prompt for item in items], sampling, n=max(self.n)))
        found = load_completions(kept)
        count_answers(run, found)
        samples = [
            Sampled(item.id, group, [grade(item, completion.text) for completion in group])
            for item, group in zip(items, found, strict=True)
        ]
        curves = {}
        for choice in self.strategies:
            name, _ = split_choice(choice, "strategy")
            points = curve(samples, self.n, STRATEGIES.build(choice), seed=run.seed)
            curves[name] = [asdict(point) for point in points]
        (run.folder / "curves.json").write_text(json.dumps(curves, indent=2), encoding="utf-8")
        return {
            "curves": curves,
            "items": len(items),
            "left_out": len(every) - len(items),
            **work_done(len(items) * max(self.n), inputs.model("model")),
            "headline": _headline(curves),
        }


def _headline(curves: dict[str, list[dict[str, Any]]]) -> str:
    parts = [
        f"{name} {points[0]['accuracy']['mean']:.1%} at n={points[0]['n']}"
        f" to {points[-1]['accuracy']['mean']:.1%} at n={points[-1]['n']}"
        for name, points in curves.items()
    ]
    return "; ".join(parts)
