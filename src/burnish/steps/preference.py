"""Align a model to preferences: raise good answers over bad ones, near the starting model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Table
from burnish.data.io import read_rows
from burnish.errors import DataError, Problem
from burnish.objectives import OBJECTIVES
from burnish.objectives.parts import PairObjective
from burnish.steps.base import Inputs, Running, View
from burnish.steps.rendering import Kept, check_rendering, longest, render_all, render_pair
from burnish.steps.training import Training
from burnish.training.optim import Optimization
from burnish.types import Example, Message, PreferencePair

if TYPE_CHECKING:
    from burnish.models.chat import ChatTemplate
    from burnish.models.load import LanguageModel
    from burnish.training.labelled import RenderedAnswer
    from burnish.training.state import TrainResult
    from burnish.training.step import RunOptions


class SmallSteps(Optimization):
    """How weights are updated in preference training, which spoils a model by steps that teach one."""

    learning_rate: float = Field(default=5e-6, gt=0)
    """Highest learning rate. 5e-7 to 5e-6 is usual for whole models, 5e-6 to 5e-5 for adapters."""


class Preference(Training):
    """Preference alignment from pairs, or from single answers that were found good or bad (kto). The reference is the
    starting model; its log-probabilities are computed once and kept."""

    sums_over: ClassVar[tuple[str, ...]] = ("pair", "answer")

    use: Literal["preference"]
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")] = "dpo"
    """The loss: dpo, {dpo: {beta: 0.1}}, {dpo: {variant: ipo}}, simpo, cpo, orpo; kto, which takes pairs apart."""
    train: SmallSteps = SmallSteps()
    """Learning rate, batch size, epochs and the like."""

    @property
    def _single(self) -> bool:
        return bool(OBJECTIVES.build(self.objective).unit == "answer")

    def check(self, view: View) -> Iterator[Problem]:
        yield from super().check(view)
        if self.lora and self.lora.dropout:
            yield Problem("dropout is off in preference training: it would be noise in every margin", "lora.dropout",
                          "leave it out")  # fmt: skip
        objective = OBJECTIVES.build(self.objective)
        if getattr(objective, "unit", None) == "pair" and not isinstance(objective, PairObjective):
            yield Problem("this objective is not made for pairs", "objective",
                          "derive it from burnish.objectives.parts:PairObjective")  # fmt: skip
        sample = view.sample(self.data)
        pairs = [row for row in sample if isinstance(row, PreferencePair)]
        yield from check_rendering(view, self.model, pairs, render_pair, self.refused)
        if self._single:
            answers = [row for row in sample if isinstance(row, Example)]
            yield from check_rendering(view, self.model, answers, render_answer, self.refused)

    def rendered(self, lm: LanguageModel, inputs: Inputs, limit: int) -> Kept:
        rows: list[Any] = read_rows(inputs.artifact("data").file("rows.jsonl"))
        if self._single:
            return render_all([one for row in rows for one in single_answers(row)],
                              lambda row: render_answer(lm.chat, row), lambda one: len(one.answer.ids), limit,
                              self.overlong, self.refused)  # fmt: skip
        return render_all(rows, lambda row: render_pair(lm.chat, row), longest, limit, self.overlong, self.refused)

    def reference(self, lm: LanguageModel, rows: Sequence[Any], objective: Any, run: Running) -> Any:
        from burnish.training.labelled import labelled_reference
        from burnish.training.preference import pair_reference

        if self._single:
            return labelled_reference(lm, rows, objective, run.store.references, self.train, run.seed)
        if not objective.needs_reference:
            return None
        return pair_reference(lm, rows, run.store.references, self.train, run.seed)

    def fit(self, lm: LanguageModel, rows: Sequence[Any], objective: Any, reference: Any, inputs: Inputs,
            options: RunOptions) -> TrainResult:  # fmt: skip
        from burnish.training.labelled import train_labelled
        from burnish.training.preference import train_preference

        train = train_labelled if self._single else train_preference
        return train(lm, rows, reference, objective, self.train, **options)


def single_answers(row: Example | PreferencePair) -> list[Example]:
    """A labelled answer as it is, and a pair as a good answer and a bad one."""
    if isinstance(row, Example):
        return [row]
    return [
        Example(f"{row.id}/{side}", (*row.prompt, Message("assistant", text)), label=label, source=row.source)
        for side, text, label in (("chosen", row.chosen, 1.0), ("rejected", row.rejected, 0.0))
    ]


def render_answer(template: ChatTemplate, row: Example) -> RenderedAnswer:
    """A labelled answer as token ids behind its prompt; only the answer is learned."""
    from burnish.training.labelled import RenderedAnswer

    if row.label is None:
        raise DataError("the answer has no label", where=row.source, hint="rows with `prompt`, `completion`, `label`")
    answer = template.answer_ids(row.messages[:-1], row.messages[-1].content)
    return RenderedAnswer(answer, row.label > 0.5, row.id)
