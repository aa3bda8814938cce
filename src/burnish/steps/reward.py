"""Reward models: a score for an answer from pairs, or for each of its steps from labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from burnish.config import Table
from burnish.data.io import read_rows
from burnish.errors import DataError, Problem
from burnish.models.locate import locate
from burnish.objectives import OBJECTIVES
from burnish.steps.base import Inputs, View
from burnish.steps.rendering import Kept, check_rendering, longest, render_all, render_pair
from burnish.steps.training import Training
from burnish.types import Example, PreferencePair

if TYPE_CHECKING:
    from burnish.models.chat import ChatTemplate
    from burnish.models.load import Gives, LanguageModel
    from burnish.training.preference import RenderedPair
    from burnish.training.reward import RenderedSteps
    from burnish.training.state import TrainResult
    from burnish.training.step import RunOptions


class Reward(Training):
    """A model that gives a score: of whole answers, learned from pairs, or of steps, learned from labelled steps."""

    kind: ClassVar[str] = "reward_model"
    sums_over: ClassVar[tuple[str, ...]] = ("comparison", "step")
    gives: ClassVar[Gives] = "scores"

    use: Literal["reward"]
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")] = "bradley_terry"
    """The loss: bradley_terry or {bradley_terry: {margins: true}} on pairs, steps on answers with labelled steps."""

    @property
    def _by_steps(self) -> bool:
        return bool(OBJECTIVES.build(self.objective).unit == "step")

    def check(self, view: View) -> Iterator[Problem]:
        yield from super().check(view)
        yield from self._check_model(view)
        if self._by_steps:
            rows = [row for row in view.sample(self.data) if isinstance(row, Example)]
            yield from check_rendering(view, self.model, rows, render_steps, self.refused)
        else:
            pairs = [row for row in view.sample(self.data) if isinstance(row, PreferencePair)]
            yield from check_rendering(view, self.model, pairs, self._render_pair, self.refused)
            wanted = getattr(OBJECTIVES.build(self.objective), "margins", False)
            if wanted and pairs and not any(pair.margin for pair in pairs):
                yield Problem(f"the pairs of {self.data} have no margins", "objective", "leave `margins` out, or give"
                              " rows a `margin`, or `chosen_score` and `rejected_score`")  # fmt: skip

    def _check_model(self, view: View) -> Iterator[Problem]:
        """A head of scores stands on whole weights, or on an adapter that has one."""
        from burnish.models.load import gives_scores

        step = view.step(self.model)
        if step is not None:
            of_text = step.kind == "model" and getattr(step, "lora", None) is not None
        else:
            source = locate(view.root(self.model))
            of_text = source.adapter and not gives_scores(source)
        if of_text:
            yield Problem(f"{self.model} is an adapter on a model that gives text", "model",
                          f"fold it first, `whole: {{use: fold, model: {self.model}}}`, and take $whole")  # fmt: skip

    def rendered(self, lm: LanguageModel, inputs: Inputs, limit: int) -> Kept:
        rows: list[Any] = read_rows(inputs.artifact("data").file("rows.jsonl"))
        if self._by_steps:
            return render_all(rows, lambda row: render_steps(lm.chat, row), lambda one: len(one.row.ids), limit,
                              self.overlong, self.refused)  # fmt: skip
        return render_all(
            rows, lambda row: self._render_pair(lm.chat, row), longest, limit, self.overlong, self.refused
        )

    def _render_pair(self, template: ChatTemplate, pair: PreferencePair) -> RenderedPair:
        if (pair.margin or 0.0) < 0 and getattr(OBJECTIVES.build(self.objective), "margins", False):
            raise DataError(
                f"the rejected answer has the higher score (margin {pair.margin:g}), and `margins` asks for it",
                where=pair.source,
                hint="leave such pairs out with `refused: drop`, or `margins`",
            )
        return render_pair(template, pair)

    def fit(self, lm: LanguageModel, rows: Sequence[Any], objective: Any, reference: Any, inputs: Inputs,
            options: RunOptions) -> TrainResult:  # fmt: skip
        from burnish.training.reward import train_reward, train_steps

        train = train_steps if self._by_steps else train_reward
        return train(lm, rows, objective, self.train, **options)


def render_steps(template: ChatTemplate, row: Example) -> RenderedSteps:
    """A conversation as token ids, with the ends of its last answer's steps marked."""
    from burnish.models.scores import at_the_steps
    from burnish.training.reward import RenderedSteps

    if not row.step_labels:
        raise DataError("the answer's steps have no labels", where=row.source,
                        hint="rows with `prompt`, `completions` (the steps) and `labels`")  # fmt: skip
    rendered = template.answer_ids(row.messages[:-1], row.messages[-1].content)
    try:
        return RenderedSteps(at_the_steps(rendered, len(row.step_labels), template.tokenizer), row.step_labels)
    except ValueError as error:
        raise DataError(str(error), where=row.source) from None
