"""Score one model on one frozen suite: the unit that is cached, resumed and compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Config, Table
from burnish.data.io import read_examples
from burnish.engines.base import Engine, Prompt
from burnish.engines.cache import load_completions, save_completions
from burnish.errors import Problem
from burnish.evaluation.turns import graders
from burnish.judges import JUDGES
from burnish.models.locate import size_of
from burnish.registry import split_choice, suggest
from burnish.rewards import is_judged
from burnish.steps.base import BASE, SUITE, Expectation, Inputs, ModelRef, Phase, Running, Step, View
from burnish.steps.estimate import answering_seconds, mean_tokens, memory, work_done
from burnish.types import Completion, Example, Sampling
from burnish.workspace import Artifact, write_atomic

if TYPE_CHECKING:
    from burnish.evaluation.judged import Judge

JUDGE_TOKENS = 32
"""About what a judge writes."""


class Judged(Config):
    """The judge of items that no rule can grade."""

    model: str
    """The judge: `$step`, a folder, a Hub id or a server's `URL#MODEL`; a reward model judges too."""
    how: Annotated[Any, Table("burnish.judges:JUDGES")] = None
    """How it is asked: {pointwise: {by: logprob}}. When left out, pointwise, or `reward` for a reward model."""


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
            from burnish.engines.opening import open_model

            engine = open_model(ref, batch_tokens=self.batch_tokens, kept=kept.with_suffix(".sqlite"))
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


class Grading(Decoding):
    """Settings of steps that also grade what is answered."""

    judge: Judged | None = None
    """The judge model of items that only a judge can score, such as MT-Bench's: {model: $judge}, {model: org/name}.
    Without one they are unscored, and counted."""


class Measure(Grading):
    """One model's answers to one suite, graded."""

    kind: ClassVar[str] = "scores"
    phase: ClassVar[Phase] = "evaluation"

    use: Literal["measure"]
    model: ModelRef
    """The model."""
    suite: str
    """The suite's name."""

    def references(self, name: str) -> dict[str, list[str]]:
        judge = {"judge": [self.judge.model]} if self.judge else {}
        return {**super().references(name), "suite": [SUITE + self.suite], **judge}

    def content(self) -> dict[str, Any]:
        content = super().content()
        content.pop("suite")
        content.pop("judge")
        return {**content, "judge": self.judge.how} if self.judge else content  # the model is an input

    def own_seed(self, recipe_seed: int, name: str) -> int:
        return 0  # one model on one suite is one result, whoever asks for it

    def check(self, view: View) -> Iterator[Problem]:
        if view.suites and self.suite not in view.suites:
            yield Problem(f"there is no suite '{self.suite}'", "suites", suggest(self.suite, list(view.suites)))
        talks = any(not item.choices or item.meta.get("style") == "chat" for item in self._items(view))
        yield from check_models(view, [self.model], "models", chat=talks)
        yield from self._check_judge(view)

    def _check_judge(self, view: View) -> Iterator[Problem]:
        if self.judge is None:
            return
        step = view.step(self.judge.model)
        if step is not None and step.kind not in ("model", "reward_model"):
            yield Problem(f"{self.judge.model} makes a {step.kind}, and a judge is a model", "judge.model")
        yield from check_models(view, [self.judge.model], "judge.model", scores=True)
        if self.judge.how and split_choice(self.judge.how, JUDGES.kind)[0] == "pairwise":
            yield Problem("`pairwise` compares two answers, and here each is scored alone", "judge.how", "pointwise")

    def _items(self, view: View) -> list[Example]:
        return [item for item in view.sample(SUITE + self.suite) if isinstance(item, Example)]

    def expect(self, view: View) -> Expectation:
        items = self._items(view)
        written = 0.0 if all(item.choices for item in items) else self.max_tokens
        rows = view.expect(SUITE + self.suite).rows
        turns = sum(len(graders(item)) for item in items) / len(items) if items else 1.0
        prompt = mean_tokens(items) + (turns - 1) / 2 * written  # a later turn stands behind the answers before it
        answers = rows * turns if rows is not None else None
        needs = replace(self.answering(view, self.model, answers, prompt, written), rows=rows)
        return needs if self.judge is None else self._with_judge(needs, view, items, prompt + written)

    def _with_judge(self, needs: Expectation, view: View, items: Sequence[Example], read: float) -> Expectation:
        """What is needed when the judged share of the answers is also read by the judge."""
        assert self.judge is not None
        share = sum(map(only_judged, items)) / len(items) if items else 1.0
        answers = needs.rows * share if needs.rows is not None else None
        judging = self.answering(view, self.judge.model, answers, read, JUDGE_TOKENS)
        memory_gib = _sum(needs.memory_gib, judging.memory_gib)  # both models are held at once
        return replace(needs, seconds=_sum(needs.seconds, judging.seconds), memory_gib=memory_gib)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.engines.opening import open_model
        from burnish.evaluation.runner import evaluate, report

        suite = inputs.artifact("suite")
        spend_look(run, suite, self.model)
        items = read_examples(suite.file("items.jsonl"))
        engine = open_model(inputs.model("model"), batch_tokens=self.batch_tokens, kept=run.store.responses)
        sampling = Sampling(self.max_tokens, self.temperature, seed=run.seed)
        judge = self._judge(inputs, engine, run.store.responses)
        outcomes = evaluate(engine, items, sampling, label=run.name, judge=judge)
        count_usage(run, engine)
        if judge is not None and judge.opened not in (None, engine):
            count_usage(run, judge.opened)
        with (run.folder / "outcomes.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(outcome), ensure_ascii=False) + "\n" for outcome in outcomes)
        reports = report(outcomes)
        overall = reports[-1]
        return {
            "reports": [asdict(row) for row in reports],
            "template": engine.template_hash,
            **work_done(sum(len(graders(item)) for item in items), inputs.model("model")),
            **({"judge": inputs.names["judge"][0]} if self.judge else {}),
            "headline": (f"{overall.mean:.1%} [{overall.low:.1%}, {overall.high:.1%}]" if overall.n else "no score")
            + f" over {len(items)} items"
            + (f", {overall.unscored} answers unscored" if overall.unscored else ""),
        }

    def _judge(self, inputs: Inputs, engine: Engine, kept: Path) -> Judge | None:
        """The judge, opened when it is first asked; a model that judges itself is loaded once."""
        if self.judge is None:
            return None
        from burnish.engines.opening import open_judge
        from burnish.evaluation.judged import Judge

        ref = inputs.model("judge")
        itself = ref == inputs.model("model")
        how = JUDGES.build(self.judge.how) if self.judge.how else None
        return Judge(lambda: engine if itself else open_judge(ref, batch_tokens=self.batch_tokens, kept=kept), how)


def only_judged(item: Example) -> bool:
    """Whether nothing but a judge can score an item."""
    return not item.choices and all(is_judged(grader) for grader in graders(item) if grader)


def _sum(*parts: float | None) -> float | None:
    """The sum; None when a part is not known."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def check_models(view: View, refs: Sequence[str], key: str, *, chat: bool = True, scores: bool = False
                 ) -> Iterator[Problem]:  # fmt: skip
    """Problems of models from outside: files, tokenizer, and a chat template where they are to read conversations.

    `scores` says that they may be reward models.
    """
    from burnish.models.load import check

    for place, ref in enumerate(refs):
        if view.step(ref) is None:
            at = key if len(refs) == 1 else f"{key}.{place}"
            yield from (
                Problem(problem.what, at, problem.hint) for problem in check(view.root(ref), chat=chat, scores=scores)
            )


def spend_look(run: Running, suite: Artifact, model: str) -> None:
    """Count a look at a held-out suite by any model but the base; once, also when the step is killed and resumed.

    Looks belong to the items, whatever suite they stand in, whatever code froze them, and whether or not this recipe
    holds them out: one that did has settled it for the store.
    """
    items, mark = suite.manifest.summary["items"], run.folder / "look.json"
    allowed = run.looks.get(suite.id, run.store.allowed_looks(items))
    if allowed is not None and model != BASE and not mark.exists():
        number = run.store.count_look(items, allowed)
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
