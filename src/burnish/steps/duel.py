"""Let a judge compare models' answers with the baseline's, with a card that says what the judge is worth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.data.io import read_examples
from burnish.errors import BurnishError, Problem
from burnish.evaluation.votes import content_digest
from burnish.judges import JUDGES
from burnish.steps.base import BASE, SUITE, Expectation, Inputs, ModelRefs, Phase, Running, Step, View
from burnish.steps.measure import Decoding, Judged, Measure, check_models, count_usage

if TYPE_CHECKING:
    from burnish.evaluation.duels import Duel
    from burnish.evaluation.judge_card import JudgeCard


class DuelStep(Decoding):
    """Win rates of models against the baseline by a judge, corrected by human labels where there are some."""

    kind: ClassVar[str] = "duel"
    phase: ClassVar[Phase] = "evaluation"

    use: Literal["duel"]
    models: ModelRefs = Field(min_length=1)
    """The candidates: [$sft, $dpo]. Each is compared with the base."""
    suite: str
    """The suite whose answers are compared."""
    judge: Judged
    """The judge: {model: $reward} or {model: org/name, how: pairwise}."""
    labels: str | None = None
    """Human labels of some pairs: an arena's file of votes, or rows of {prompt, model, baseline, preference}."""
    names: dict[str, str] = Field(default_factory=dict)
    """What models are called in the labels where that is not their name here: {base: pebble, dpo: mine:dpo}."""
    retest: int = Field(default=50, ge=0)
    """So many pairs are judged a second time."""
    null: int = Field(default=50, ge=0)
    """So many items are also answered with answers to nothing, which should never win."""

    def _labels(self) -> list[str]:
        return [ref.removeprefix("$") for ref in self.models if ref != BASE]

    def _own(self) -> str:
        """What the judge is called here, when it is one of the models that it judges."""
        return next((ref.removeprefix("$") for ref in [BASE, *self.models] if ref == self.judge.model), "")

    def parts(self, name: str) -> dict[str, Step]:
        """A measurement for each model; an `evaluate` step on the suite shares them."""
        settings = {"max_tokens": self.max_tokens, "temperature": self.temperature, "batch_tokens": self.batch_tokens}
        refs = [BASE, *(ref for ref in self.models if ref != BASE)]
        return {
            f"{name}/{label}@{self.suite}": Measure(use="measure", model=ref, suite=self.suite, **settings)
            for label, ref in zip([BASE, *self._labels()], refs, strict=True)
        }

    def references(self, name: str) -> dict[str, list[str]]:
        scores = [f"${part}" for part in self.parts(name)]
        return {"scores": scores, "suite": [SUITE + self.suite], "judge": [self.judge.model]}

    def content(self) -> dict[str, Any]:
        return {
            "models": self._labels(),
            "how": self.judge.how,
            "retest": self.retest,
            "null": self.null,
            "names": self.names,
        }

    def outside(self) -> list[str]:
        return [content_digest(Path(self.labels))] if self.labels else []

    def check(self, view: View) -> Iterator[Problem]:
        if self.labels and not Path(self.labels).is_file():
            yield Problem(f"no such file: {self.labels}", "labels", "paths are relative to the current folder")
        elif self.labels:
            from burnish.evaluation.duels import read_labels

            try:
                read_labels(Path(self.labels))
            except BurnishError as error:
                yield Problem(f"{error.where or self.labels}: {error.what}", "labels", error.hint)
        yield from check_models(view, [self.judge.model], "judge.model", scores=True)

    def expect(self, view: View) -> Expectation:
        return Expectation(seconds=10.0)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.engines.opening import open_judge
        from burnish.engines.reward import RewardEngine
        from burnish.evaluation.duels import duel, read_labels
        from burnish.evaluation.judging import card_of, say_alarms
        from burnish.evaluation.runner import read_outcomes

        items = read_examples(inputs.artifact("suite").file("items.jsonl"))
        answers = [read_outcomes(artifact.file("outcomes.jsonl")) for artifact in inputs.artifacts("scores")]
        labels = read_labels(Path(self.labels), self.names) if self.labels else None
        engine = open_judge(inputs.model("judge"), batch_tokens=self.batch_tokens, kept=run.store.responses)
        judge = JUDGES.build(self.judge.how or ("reward" if isinstance(engine, RewardEngine) else "pairwise"))
        duels = [
            duel(judge, engine, items, {BASE: answers[0], label: found}, labels)
            for label, found in zip(self._labels(), answers[1:], strict=True)
        ]
        pairs = [pair for one in duels for pair in one.pairs]
        by_id = {item.id: item for item in items}
        card = card_of(judge, engine, by_id, pairs, retest=self.retest, null=self.null, own_model=self._own())
        count_usage(run, engine)
        say_alarms(card)
        with (run.folder / "verdicts.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs)
        return _summary(inputs.names["judge"][0], duels, card)


def _summary(judge: str, duels: list[Duel], card: JudgeCard) -> dict[str, Any]:
    best = max(duels, key=lambda one: one.wins.mean)
    rows = {
        one.model: {
            "wins": asdict(one.wins),
            "corrected": asdict(one.corrected) if one.corrected else None,
            "left_out": one.left_out,
            "unscored": sum(pair.verdict.preference is None for pair in one.pairs),
        }
        for one in duels
    }
    alarms = f", {len(card.alarms)} alarms" if card.alarms else ""
    return {"judge": judge, "duels": rows, "card": asdict(card),
            "headline": f"{best.model} wins {best.wins.mean:.1%} against base by {judge}{alarms}"}  # fmt: skip
