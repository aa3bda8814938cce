"""Let models answer prompts several times, score the answers, and pair the best with the worst."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Ref, Table
from burnish.data.card import card
from burnish.data.io import read_examples, write_rows
from burnish.data.preferences import Answer, pair_up
from burnish.errors import DataError, Problem
from burnish.judges import JUDGES
from burnish.registry import split_choice
from burnish.rewards import grade, is_judged
from burnish.rng import seed_for
from burnish.steps.base import DatasetRef, Expectation, Holds, Inputs, ModelRefs, Phase, Running, View
from burnish.steps.estimate import mean_tokens, work_done
from burnish.steps.measure import Decoding, check_models, count_answers, count_usage
from burnish.types import Example, PreferencePair, Score, Verdict

if TYPE_CHECKING:
    from burnish.evaluation.judge_card import JudgeCard

GOLD = "gold"
"""The name under which a row's own answer takes part."""
TRIED = 8
"""Rows whose own answers are graded before anything is made, to see whether they can be."""
USUAL, ANY = 0.5, 1e-9
"""Least difference of scores for a pair: of graders and judges that rate, and of reward models."""
TESTED = 20
"""Pairs that a judge is asked about again, and prompts that are answered with answers to nothing."""


def _tried(row: Example) -> Score:
    """The grade of a row's last message; unscored where a grader of the user's own cannot do without a target."""
    try:
        return grade(row, row.messages[-1].content)
    except Exception as error:
        return Score(None, error=f"{type(error).__name__}: {error}")


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
    grader: Annotated[Any, Table("burnish.rewards:REWARDS")] = None
    """Grader of rows that name none themselves: numeric, {exact: {last_line: true}}, {use: ./mine.py:Mine}."""
    judge: Annotated[str, Ref("any")] | None = None
    """The judge, with `scorer: judge`: a model, a reward model, or a server's `URL#MODEL`."""
    judge_with: Annotated[Any, Table("burnish.judges:JUDGES")] = None
    """How the judge is asked: pairwise, {pointwise: {scale: 5}}. When left out, pointwise, or `reward` for a reward
    model."""
    min_margin: float | None = Field(default=None, gt=0)
    """Least difference of scores for a pair. When left out 0.5, and any difference where a reward model judges, whose
    scores may all be near 0 or near 1."""
    pairs_per_prompt: int = Field(default=1, ge=1)
    """Most pairs of a prompt, those that differ most first; 1 pairs the best answer with the worst."""
    mean_score: tuple[float, float] | None = None
    """Use only prompts whose answers score between these on average. [0.3, 1] leaves out what the model guesses at:
    there, which answer was right is mostly luck, and pairs of luck teach noise."""

    def check(self, view: View) -> Iterator[Problem]:
        if (self.scorer == "judge") != (self.judge is not None):
            yield Problem("`scorer: judge` and `judge:` belong together", "judge", "scorer: judge, judge: $step")
        if view.holds(self.prompts) == "pairs":
            yield Problem(f"{self.prompts} holds pairs, and prompts are conversations", "prompts")
        if self.n * len(self.models) + self.gold < 2:
            yield Problem("one answer to a prompt makes no pair", "n", "n: 4")
        yield from check_models(view, self.models, "models")
        step = view.step(self.judge) if self.judge else None
        if step is not None and step.kind not in ("model", "reward_model"):
            yield Problem(f"{self.judge} makes a {step.kind}, and a judge is a model", "judge")
        if self.judge is not None:
            yield from check_models(view, [self.judge], "judge", scores=True)
        rows = [row for row in view.sample(self.prompts) if isinstance(row, Example)]
        if self.scorer == "grader" and rows and not any(self._graded(row).grader for row in rows):
            yield Problem(f"the rows of {self.prompts} carry no grader", "scorer",
                          "`grader: numeric` grades all of them, or `scorer: judge` with a judge model")  # fmt: skip
        elif self.scorer == "grader":
            yield from self._check_targets([row for row in map(self._graded, rows) if row.grader][:TRIED])

    def _check_targets(self, rows: Sequence[Example]) -> Iterator[Problem]:
        """Rows that a grader can score nothing of, most often for want of a target."""
        without = [row for row in rows if row.target is None]
        scores = [_tried(row) for row in without if not is_judged(row.grader)]
        if rows and len(scores) == len(rows) and all(score.value is None for score in scores):
            yield Problem(f"no answer to the rows of {self.prompts} can be scored: {scores[0].error}", "prompts",
                          "give each row a `target`, take a grader that needs none, or `scorer: judge`")  # fmt: skip

    def holds(self, view: View) -> Holds | None:
        return "pairs"

    def expect(self, view: View) -> Expectation:
        rows = view.expect(self.prompts).rows
        rows = min(rows, self.limit or rows) if rows is not None else None
        answers = rows * self.n * len(self.models) if rows is not None else None
        needs = self.answering(view, self.models[0], answers, mean_tokens(view.sample(self.prompts)), self.max_tokens)
        return dataclasses.replace(needs, rows=rows)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.models.load import template_hash

        every = read_examples(inputs.artifact("prompts").file("rows.jsonl"))[: self.limit]
        prompts = [self._graded(row) for row in every]
        ungraded = [row for row in prompts if self.scorer == "grader" and not row.grader]
        prompts = [row for row in prompts if row not in ungraded]
        models = inputs.models("models")
        answers, too_long = self._answers(prompts, inputs.names["models"], models, run)
        engine = self._judge(inputs, run)
        scores = self._score(prompts, answers, engine)
        usual = ANY if engine is not None and self._is_reward(engine) else USUAL
        result = pair_up(
            prompts, answers, scores, min_margin=self.min_margin or usual, per_prompt=self.pairs_per_prompt,
            mean_score=self.mean_score or (-math.inf, math.inf),
        )  # fmt: skip
        dropped = {"no grader": len(ungraded), "too long for a model": too_long, **result.dropped}
        dropped["fewer than two scored answers"] = dropped.get("fewer than two scored answers", 0) - too_long
        dropped = {why: count for why, count in dropped.items() if count}
        _write_answers(run.folder / "answers.jsonl", prompts, answers, scores)
        if not result.pairs:
            why = ", ".join(f"{reason} {count}" for reason, count in dropped.items())
            raise DataError(f"none of {len(every)} prompts gave a pair: {why}",
                            hint="more answers (`n`), a higher `temperature`, a smaller `min_margin`, `gold: true`"
                            )  # fmt: skip
        write_rows(run.folder / "rows.jsonl", result.pairs)
        judged = {}
        if engine is not None:
            judged = {
                "judge": inputs.names["judge"][0],
                "judge_card": dataclasses.asdict(self._card(engine, result.pairs, prompts)),
            }
            count_usage(run, engine)
        return {
            **judged,
            "rows_in": len(every),
            "rows": len(result.pairs),
            "dropped": dropped,
            "unscored": result.unscored,
            "longer_chosen": result.longer_chosen,
            "card": card(result.pairs),
            "certified": inputs.artifact("prompts").manifest.certified,
            "template": ", ".join(dict.fromkeys(map(template_hash, models))),
            **work_done(len(prompts) * self.n * len(self.models), models[0]),
            "prompts": result.paired,
            "headline": f"{len(result.pairs)} pairs from {result.paired} of {len(every)} prompts, "
            f"chosen is longer in {result.longer_chosen:.0%}",
        }

    def _graded(self, row: Example) -> Example:
        """A row with the step's own grader, where it has none itself."""
        if row.grader or self.grader is None:
            return row
        name, settings = split_choice(self.grader, "reward")
        return dataclasses.replace(row, grader={name: settings})

    def _answers(self, prompts: list[Example], names: Sequence[str], models: Sequence[str], run: Running
                 ) -> tuple[list[list[Answer]], int]:  # fmt: skip
        """The answers of all models to each prompt, and to how many prompts a model had no room to answer."""
        answers: list[list[Answer]] = [[] for _ in prompts]
        too_long: set[int] = set()
        for number, (name, model) in enumerate(zip(names, models, strict=True)):
            kept = run.scratch / f"completions-{number}.json"
            asked = self.ask(model, [row.prompt for row in prompts], self.n, seed_for(run.seed, number), kept)
            count_answers(run, asked)
            too_long |= {place for place, group in enumerate(asked) if not group}
            for found, completions in zip(answers, asked, strict=True):
                found.extend(Answer(completion.text, name) for completion in completions)
        for place, row in enumerate(prompts):
            if place in too_long:
                answers[place] = []  # compared with fewer models than the others, it would not be the same contest
            elif self.gold and len(row.messages) > len(row.prompt):
                answers[place].append(Answer(row.messages[-1].content, GOLD))
        return answers, len(too_long)

    def _judge(self, inputs: Inputs, run: Running) -> Any | None:
        """The judge model, where a judge scores."""
        if self.scorer != "judge":
            return None
        from burnish.engines.opening import open_judge

        return open_judge(inputs.model("judge"), batch_tokens=self.batch_tokens, kept=run.store.responses)

    def _how(self, engine: Any) -> Any:
        """How this judge is asked."""
        return JUDGES.build(self.judge_with or ("reward" if self._is_reward(engine) else "pointwise"))

    @staticmethod
    def _is_reward(engine: Any) -> bool:
        from burnish.engines.reward import RewardEngine

        return isinstance(engine, RewardEngine)

    def _score(self, prompts: list[Example], answers: list[list[Answer]], engine: Any | None) -> list[list[Score]]:
        if engine is not None:
            texts = [[answer.text for answer in given] for given in answers]
            scores: list[list[Score]] = self._how(engine).score(engine, prompts, texts)
            return scores
        return [
            [grade(prompt, answer.text) for answer in given] for prompt, given in zip(prompts, answers, strict=True)
        ]

    def _card(self, engine: Any, pairs: Sequence[PreferencePair], prompts: Sequence[Example]) -> JudgeCard:
        """What the judge that made the pairs is worth: its habits, whether it says the same twice, and controls."""
        from burnish.evaluation.judge_card import Pair
        from burnish.evaluation.judging import card_of, say_alarms

        preferred = Verdict(1.0, (1.0, 1.0))
        compared = [Pair(pair.id, pair.chosen, pair.rejected, preferred) for pair in pairs]
        asked = {row.prompt: row for row in prompts}  # with the reference that the judge was shown
        items = {pair.id: asked[pair.prompt] for pair in pairs}
        card = card_of(self._how(engine), engine, items, compared, retest=TESTED, null=TESTED)
        say_alarms(card)
        return card


def _write_answers(path: Path, prompts: Sequence[Example], answers: Sequence[Sequence[Answer]],
                   scores: Sequence[Sequence[Score]]) -> None:  # fmt: skip
    with path.open("w", encoding="utf-8") as stream:
        for prompt, given, graded in zip(prompts, answers, scores, strict=True):
            rows = [{"model": answer.model, "text": answer.text, "score": score.value, "why": score.why or score.error}
                    for answer, score in zip(given, graded, strict=True)]  # fmt: skip
            stream.write(json.dumps({"id": prompt.id, "answers": rows}, ensure_ascii=False) + "\n")
