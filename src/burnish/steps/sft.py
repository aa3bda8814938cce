"""Supervised fine-tuning: learn the assistant turns of conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from burnish.config import Table
from burnish.data.io import read_examples
from burnish.errors import DataError, Problem
from burnish.steps.base import Inputs, View
from burnish.steps.rendering import Kept, check_rendering, render_all
from burnish.steps.training import Training
from burnish.types import Example

if TYPE_CHECKING:
    from burnish.models.load import LanguageModel
    from burnish.training.state import TrainResult
    from burnish.training.step import RunOptions


LABELS_HINT = ("learn from labels with {use: preference, objective: kto}, from those of steps with {use: reward,"
               " objective: steps}, or drop such rows")  # fmt: skip


def _imitates_bad(rows: Sequence[Example]) -> str | None:
    """What is wrong if one of the rows holds an answer to avoid."""
    for row in rows:
        if row.label is not None and row.label <= 0.5:
            return f"{row.source}: an answer labelled as one to avoid, which this step would imitate"
        if min(row.step_labels, default=1.0) <= 0.5:
            return f"{row.source}: an answer with a step labelled as wrong, which this step would imitate"
    return None


class Conversations(Training):
    """Training on conversations: only assistant turns are learned, unless a message says otherwise."""

    def check(self, view: View) -> Iterator[Problem]:
        yield from super().check(view)
        rows = [row for row in view.sample(self.data) if isinstance(row, Example)]
        if said := _imitates_bad(rows):
            yield Problem(said, "data", LABELS_HINT)
        yield from check_rendering(view, self.model, rows, lambda template, row: template.render(row.messages),
                                   self.refused)  # fmt: skip

    def rendered(self, lm: LanguageModel, inputs: Inputs, limit: int) -> Kept:
        examples = read_examples(inputs.artifact("data").file("rows.jsonl"))
        if said := _imitates_bad(examples):  # the plan has seen some rows only
            raise DataError(said, hint=LABELS_HINT)
        return render_all(examples, lambda row: lm.chat.render(row.messages), lambda row: len(row.ids), limit,
                          self.overlong, self.refused)  # fmt: skip


class Sft(Conversations):
    """Supervised fine-tuning on conversations. Only assistant turns are learned, unless a message says otherwise."""

    sums_over: ClassVar[tuple[str, ...]] = ("token",)

    use: Literal["sft"]
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")] = "sft"
    """The loss: sft, or {sft: {dynamic: true}}."""

    def fit(self, lm: LanguageModel, rows: Sequence[Any], objective: Any, reference: Any, inputs: Inputs,
            options: RunOptions) -> TrainResult:  # fmt: skip
        from burnish.training.supervised import train_supervised

        return train_supervised(lm, rows, objective, self.train, **options)
