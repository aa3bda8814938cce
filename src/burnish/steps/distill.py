"""Distillation: learn a teacher's distributions on conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from burnish.config import Table
from burnish.errors import BurnishError, Problem
from burnish.models.locate import size_of
from burnish.steps.base import Expectation, Inputs, ModelRef, View
from burnish.steps.sft import Conversations

if TYPE_CHECKING:
    from burnish.models.load import LanguageModel
    from burnish.training.state import TrainResult
    from burnish.training.step import RunOptions


class Distillation(Conversations):
    """Bring a model's next-token distributions to those of a teacher with the same tokens, on conversations."""

    sums_over: ClassVar[tuple[str, ...]] = ("distribution",)

    use: Literal["distill"]
    teacher: ModelRef
    """The model to learn from; it must have the tokens of the student."""
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")] = "distill"
    """The loss: distill, or {distill: {divergence: reverse_kl}}."""

    def check(self, view: View) -> Iterator[Problem]:
        from burnish.models.load import load_tokenizer

        yield from super().check(view)
        try:
            ours, theirs = (load_tokenizer(view.root(ref)).get_vocab() for ref in (self.model, self.teacher))
        except BurnishError as error:
            yield Problem(error.what, "teacher", error.hint)
            return
        if ours != theirs:
            yield Problem("the teacher does not have the student's tokens", "teacher",
                          "take one of the same family, or train on text that the teacher wrote")  # fmt: skip

    def expect(self, view: View) -> Expectation:
        found, teacher = super().expect(view), size_of(view.root(self.teacher))
        if teacher is None or found.memory_gib is None:
            return found
        return replace(found, memory_gib=found.memory_gib + teacher.bytes / 2**30)

    def fit(self, lm: LanguageModel, rows: Sequence[Any], objective: Any, reference: Any, inputs: Inputs,
            options: RunOptions) -> TrainResult:  # fmt: skip
        from burnish.models.load import load_model
        from burnish.training.distill import train_distill

        teacher = load_model(inputs.model("teacher"), dtype=self.dtype)
        return train_distill(lm, teacher, rows, objective, self.train, **options)
