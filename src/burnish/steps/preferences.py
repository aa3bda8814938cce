"""Let models answer prompts several times, score the answers, and pair the best with the worst."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from burnish.data.card import card
from burnish.data.io import read_examples, write_rows
from burnish.data.preferences import Answer, pair_up
from burnish.errors import Problem
from burnish.rng import seed_for
from burnish.steps.base import DatasetRef, Expectation, Holds, Inputs, ModelRef, ModelRefs, Phase, Running, View
from burnish.steps.estimate import mean_tokens, work_done
from burnish.steps.measure import Decoding, count_answers, count_usage
from burnish.types import Completion, Example, Sampling, Score

GOLD = "gold"
"""The name under which a row's own answer takes part."""


class Preferences(Decoding):
    """Preference pairs from several models' answers: best = chosen, worst = rejected, ties and unscored counted."""

    kind: ClassVar[str] = "dataset"
    phase: ClassVar[Phase] = "data"

    use: Literal["preferences"]
    prompts: DatasetRef
    """Conversations to answer; each is answered after its last user turn."""
    models: ModelRefs = Field(min_length=1)
    """The models that answer."""
    n: int = Field(default=4, ge=1)
    """Answers of each model to each prompt."""
    gold: bool = False
    """Let the rows' own answers take part, scored like the others. A model too weak to be right even once then still
    learns to prefer a right answer to its own (as in self-play fine-tuning, arXiv:2401.01335)."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first prompts."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; pairs need answers that differ."""
    scorer: Literal["grader", "judge"] = "grader"
    """What scores an answer: the row's own grader, or a judge model."""
    judge: ModelRef | None = None
    """The judge, with `scorer: judge`."""
    min_margin: float = Field(default=0.5, gt=0)
    """Least difference of scores for a pair."""

    def check(self, view: View) -> Iterator[Problem]:
        if (self.scorer == "judge") != (self.judge is not None):
            yield Problem("`scorer: judge` and `judge:` belong together", "judge", "scorer: judge, judge: $step")
        if view.holds(self.prompts) == "pairs":
            yield Problem(f"{self.prompts} holds pairs, and prompts are conversations", "prompts")
        if self.n * len(self.models) + self.gold < 2:
            yield Problem("one answer to a prompt makes no pair", "n", "n: 4")
        rows = view.sample(self.prompts)
        if self.scorer == "grader" and rows and not any(isinstance(row, Example) and row.grader for row in rows):
            yield Problem(f"the rows of {self.prompts} carry no grader", "scorer", "scorer: judge with a judge model")

    def holds(self, view: View) -> Holds | None:
        return "pairs"

    def expect(self, view: View) -> Expectation:
        rows = view.expect(self.prompts).rows
        rows = min(rows, self.limit or rows) if rows is not None else None
        answers = rows * self.n * len(self.models) if rows is not None else None
        needs = self.answering(view, self.models[0], answers, mean_tokens(view.sample(self.prompts)), self.max_tokens)
        return replace(needs, rows=rows)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        prompts = read_examples(inputs.artifact("prompts").file("rows.jsonl"))[: self.limit]
        answers: list[list[Answer]] = [[] for _ in prompts]
        for number, name in enumerate(inputs.names["models"]):
            asked = self._ask(number, inputs.models("models")[number], prompts, run)
            count_answers(run, asked)
            for found, completions in zip(answers, asked, strict=True):
                found.extend(Answer(completion.text, name) for completion in completions)
        if self.gold:
            for prompt, found in zip(prompts, answers, strict=True):
                if len(prompt.messages) > len(prompt.prompt):
                    found.append(Answer(prompt.messages[-1].content, GOLD))
        scores = self._score(prompts, answers, inputs, run)
        result = pair_up(prompts, answers, scores, self.min_margin)
        write_rows(run.folder / "rows.jsonl", result.pairs)
        with (run.folder / "answers.jsonl").open("w", encoding="utf-8") as stream:
            for prompt, given, graded in zip(prompts, answers, scores, strict=True):
                rows = [{"model": answer.model, "text": answer.text, "score": score.value, "why": score.why}
                        for answer, score in zip(given, graded, strict=True)]  # fmt: skip
                stream.write(json.dumps({"id": prompt.id, "answers": rows}, ensure_ascii=False) + "\n")
        return {
            "rows_in": len(prompts),
            "rows": len(result.pairs),
            "dropped": result.dropped,
            "unscored": result.unscored,
            "longer_chosen": result.longer_chosen,
            "card": card(result.pairs),
            "certified": inputs.artifact("prompts").manifest.certified,
            **work_done(len(prompts) * self.n * len(self.models), inputs.models("models")[0]),
            "headline": f"{len(result.pairs)} pairs from {len(prompts)} prompts, "
            f"chosen is longer in {result.longer_chosen:.0%}",
        }

    def _ask(self, number: int, path: str, prompts: list[Example], run: Running) -> list[list[Completion]]:
        """One model's answers, kept in the work folder so that a killed step asks no model twice."""
        from burnish.engines.cache import load_completions, save_completions
        from burnish.engines.local import open_engine

        kept = run.folder / f"completions-{number}.json"
        if kept.exists():
            return load_completions(kept)
        engine = open_engine(path, batch_tokens=self.batch_tokens)
        sampling = Sampling(self.max_tokens, self.temperature, seed=seed_for(run.seed, number))
        found = engine.generate([prompt.prompt for prompt in prompts], sampling, n=self.n)
        save_completions(kept, found)
        return found

    def _score(self, prompts: list[Example], answers: list[list[Answer]], inputs: Inputs, run: Running
               ) -> list[list[Score]]:  # fmt: skip
        if self.scorer == "judge":
            from burnish.engines.local import open_engine
            from burnish.judges.pointwise import Pointwise

            engine = open_engine(inputs.model("judge"), batch_tokens=self.batch_tokens)
            texts = [[answer.text for answer in given] for given in answers]
            scores = Pointwise().score(engine, prompts, texts)
            count_usage(run, engine)
            return scores
        from burnish.rewards import grade

        return [
            [grade(prompt, answer.text) for answer in given] for prompt, given in zip(prompts, answers, strict=True)
        ]
