"""Align a model to preference pairs: raise the chosen answer over the rejected one, near the starting model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from burnish.config import Table
from burnish.data.io import read_pairs
from burnish.errors import Problem
from burnish.objectives import OBJECTIVES
from burnish.objectives.parts import PairObjective
from burnish.steps.base import MODEL, Inputs, Running, View
from burnish.steps.rendering import check_rendering, render_all
from burnish.steps.sft import Training
from burnish.types import PreferencePair

if TYPE_CHECKING:
    from burnish.models.chat import ChatTemplate
    from burnish.training.preference import RenderedPair


class Preference(Training):
    """Preference alignment. The reference is the starting model; its log-probabilities are computed once and kept."""

    unit: ClassVar[Literal["token", "pair"]] = "pair"

    use: Literal["preference"]
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")] = "dpo"
    """The loss: dpo, {dpo: {beta: 0.1}}, {dpo: {variant: ipo}}, simpo, cpo, orpo."""

    def check(self, view: View) -> Iterator[Problem]:
        yield from super().check(view)
        objective = OBJECTIVES.build(self.objective)
        if getattr(objective, "unit", None) == self.unit and not isinstance(objective, PairObjective):
            yield Problem("this objective is not made for pairs", "objective",
                          "derive it from burnish.objectives.parts:PairObjective")  # fmt: skip
        rows = [row for row in view.sample(self.data) if isinstance(row, PreferencePair)]
        yield from check_rendering(view, self.model, rows, render_pair)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.models.adapters import attach
        from burnish.training.preference import reference_logprobs, train_preference

        lm = self.load(inputs)
        limit = min(lm.context, self.max_tokens or lm.context)
        pairs = read_pairs(inputs.artifact("data").file("rows.jsonl"))
        kept = render_all(pairs, lambda row: render_pair(lm.chat, row), _longest, limit, self.overlong)
        objective = OBJECTIVES.build(self.objective)
        reference = reference_logprobs(lm, kept.rows, run.folder, self.train) if objective.needs_reference else None
        if self.lora:
            lm = attach(lm, self.lora, run.seed)
        result = train_preference(lm, kept.rows, reference, objective, self.train, seed=run.seed, folder=run.folder,
                                  checkpoint_every_s=self.checkpoint_seconds)  # fmt: skip
        lm.save(run.folder / MODEL)
        run.usage.trained_tokens += result.tokens
        return self.summary(result, kept, lm.chat.hash, inputs.model("model"))


def render_pair(template: ChatTemplate, pair: PreferencePair) -> RenderedPair:
    """Both answers as token ids behind the same prompt; only the answers are learned."""
    from burnish.training.preference import RenderedPair

    return RenderedPair(
        template.answer_ids(pair.prompt, pair.chosen), template.answer_ids(pair.prompt, pair.rejected), pair.id
    )


def _longest(pair: RenderedPair) -> int:
    return max(len(pair.chosen.ids), len(pair.rejected.ids))
