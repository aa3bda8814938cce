"""Score one model on one frozen suite: the unit that is cached, resumed and compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from burnish.data.io import read_examples
from burnish.engines.base import Prompt
from burnish.engines.cache import load_completions, save_completions
from burnish.errors import Problem
from burnish.models.locate import size_of
from burnish.registry import suggest
from burnish.steps.base import BASE, SUITE, Expectation, Inputs, ModelRef, Phase, Running, Step, View
from burnish.steps.estimate import answering_seconds, mean_tokens, memory, work_done
from burnish.types import Completion, Example, Sampling
from burnish.workspace import Artifact, write_atomic


class Decoding(Step):
    """Settings of steps that let models answer suites."""

    max_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy: the same answer every time."""
    batch_tokens: int = Field(default=16384, ge=1)
    """Tokens held in the key-value cache at once; lower it when memory is short. Does not change results."""

    def content(self) -> dict[str, Any]:
        content = super().content()
        content.pop("batch_tokens")
        return content

    def ask(self, ref: str, prompts: Sequence[Prompt], n: int, seed: int, kept: Path) -> list[list[Completion]]:
        """`n` answers of a model to each prompt, and none to a prompt that leaves no room for one.

        They are kept in a file, so that a killed step asks no model twice.
        """
        if not kept.exists():
            from burnish.engines.local import open_engine

            engine = open_engine(ref, batch_tokens=self.batch_tokens)
            too_long = engine.too_long(prompts)
            asked = [number for number in range(len(prompts)) if number not in too_long]
            sampling = Sampling(self.max_tokens, self.temperature, seed=seed)
            found = dict(zip(asked, engine.generate([prompts[number] for number in asked], sampling, n), strict=True))
            save_completions(kept, [found.get(number, []) for number in range(len(prompts))])
        return load_completions(kept)

    def answering(self, view: View, model: str, answers: float | None, prompt: float, written: float) -> Expectation:
        """What so many answers behind prompts of so many tokens take: at the speed the store has seen, or a guess."""
        size = size_of(view.root(model))
        speed = view.speed(self.use, size.bytes if size else None)
        seconds = None
        if answers is not None:
            guess = answering_seconds(size, answers, prompt, written, self.batch_tokens)
            seconds = answers / speed if speed else guess
        cached = min(self.batch_tokens, (answers or 1.0) * (prompt + written))
        return Expectation(answers, seconds, memory(size, 1.0, round(cached), 2.0 * size.cached if size else 0.0))


class Measure(Decoding):
    """One model's answers to one suite, graded."""

    kind: ClassVar[str] = "scores"
    phase: ClassVar[Phase] = "evaluation"

    use: Literal["measure"]
    model: ModelRef
    """The model."""
    suite: str
    """The suite's name."""

    def references(self, name: str) -> dict[str, list[str]]:
        return {**super().references(name), "suite": [SUITE + self.suite]}

    def content(self) -> dict[str, Any]:
        content = super().content()
        content.pop("suite")
        return content

    def own_seed(self, recipe_seed: int, name: str) -> int:
        return 0  # one model on one suite is one result, whoever asks for it

    def check(self, view: View) -> Iterator[Problem]:
        if view.suites and self.suite not in view.suites:
            yield Problem(f"there is no suite '{self.suite}'", "suites", suggest(self.suite, list(view.suites)))
        yield from check_models(view, [self.model], "models")

    def expect(self, view: View) -> Expectation:
        items = view.sample(SUITE + self.suite)
        written = 0.0 if all(isinstance(item, Example) and item.choices for item in items) else self.max_tokens
        rows = view.expect(SUITE + self.suite).rows
        return self.answering(view, self.model, rows, mean_tokens(items), written)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.engines.local import open_engine
        from burnish.evaluation.runner import evaluate, report

        suite = inputs.artifact("suite")
        spend_look(run, suite, self.model)
        items = read_examples(suite.file("items.jsonl"))
        engine = open_engine(inputs.model("model"), batch_tokens=self.batch_tokens)
        sampling = Sampling(self.max_tokens, self.temperature, seed=run.seed)
        outcomes = evaluate(engine, items, sampling, label=run.name)
        count_usage(run, engine)
        with (run.folder / "outcomes.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(outcome), ensure_ascii=False) + "\n" for outcome in outcomes)
        reports = report(outcomes)
        overall = reports[-1]
        return {
            "reports": [asdict(row) for row in reports],
            "template": engine.template_hash,
            **work_done(len(items), inputs.model("model")),
            "headline": f"{overall.mean:.1%} [{overall.low:.1%}, {overall.high:.1%}] over {len(items)} items"
            + (f", {overall.unscored} unscored" if overall.unscored else ""),
        }


def check_models(view: View, refs: Sequence[str], key: str) -> Iterator[Problem]:
    """Problems of models from outside: files, tokenizer, chat template."""
    from burnish.models.load import check

    for place, ref in enumerate(refs):
        if view.step(ref) is None:
            at = key if len(refs) == 1 else f"{key}.{place}"
            yield from (Problem(problem.what, at, problem.hint) for problem in check(view.root(ref)))


def spend_look(run: Running, suite: Artifact, model: str) -> None:
    """Count a look at a held-out suite by any model but the base; once, also when the step is killed and resumed.

    Looks belong to the items, whatever suite they stand in and whatever code froze them.
    """
    allowed, mark = run.looks.get(suite.id), run.folder / "look.json"
    if allowed is not None and model != BASE and not mark.exists():
        number = run.store.count_look(suite.manifest.summary["items"], allowed)
        write_atomic(mark, json.dumps({"look": number, "of": allowed}) + "\n")


def count_answers(run: Running, answers: Sequence[Sequence[Completion]]) -> None:
    """Add answers to the account, also those that an earlier, killed attempt got. A shared prompt counts once."""
    run.usage.prompt_tokens += sum(group[0].prompt_tokens for group in answers if group)
    run.usage.completion_tokens += sum(len(one.ids) for group in answers for one in group)
    run.usage.calls += len(answers)


def count_usage(run: Running, engine: Any) -> None:
    """Add what an engine used to the step's account."""
    run.usage.prompt_tokens += engine.usage.prompt_tokens
    run.usage.completion_tokens += engine.usage.completion_tokens
    run.usage.calls += engine.usage.calls
