"""Distillation from a teacher that reads the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor

from burnish.errors import TrainingError
from burnish.models.chat import Rendered
from burnish.models.layout import Batch, lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import Head, head_of, head_pairs, hidden_states, of_whole
from burnish.objectives.parts import LossOutput
from burnish.training.optim import Optimization
from burnish.training.state import TrainResult
from burnish.training.step import RunOptions, train
from burnish.training.supervised import row_micros

if TYPE_CHECKING:
    from burnish.objectives.distill import Distill


def train_distill(
    lm: LanguageModel, teacher: LanguageModel, rows: Sequence[Rendered], objective: Distill,
    optimization: Optimization, **run: Unpack[RunOptions],
) -> TrainResult:  # fmt: skip
    """Train on the teacher's distributions at the rows' learned tokens; weighted mean over the tokens of a step.

    Raises TrainingError when the two do not have the same tokens, or a row is longer than the teacher's context.
    """
    refuse_other_tokens(lm, teacher)
    longer = sum(len(row.ids) > teacher.longest for row in rows)
    if longer:
        raise TrainingError(f"{longer} of {len(rows)} rows are longer than the teacher's context",
                            where=teacher.source.ref, hint=f"`max_tokens: {teacher.longest}`, and `overlong: drop`"
                            )  # fmt: skip
    teacher.model.requires_grad_(False).eval()
    _ = teacher.trees

    def loss(chosen: list[Rendered]) -> LossOutput:
        batch = lay_out(chosen, lm.device, trees=lm.trees)
        losses = _token_losses(lm.model, batch, _taught(teacher, chosen, batch), head_of(teacher.model), objective)
        return LossOutput((losses.index_select(0, batch.picks) * batch.weights).sum())

    return train(lm, [[row] for row in rows], row_micros(lm, rows, loss), optimization, label="distillation", **run)


def refuse_other_tokens(student: LanguageModel, teacher: LanguageModel) -> None:
    """Raise TrainingError unless a token means the same to both."""
    ours, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if ours != theirs:
        different = sum(theirs.get(token) != number for token, number in ours.items())
        raise TrainingError(
            f"student and teacher do not have the same tokens: {different} of {len(ours)} differ",
            where=f"{student.source.ref}, {teacher.source.ref}",
            hint="take a teacher of the student's family, or train on text that the teacher wrote",
        )


@of_whole
def _token_losses(model: Any, batch: Batch, taught: Tensor, teachers_head: Head, objective: Distill) -> Tensor:
    """Loss of each of the batch's predicted tokens (N,)."""
    hidden = hidden_states(model, batch).index_select(0, batch.sources)
    return head_pairs(objective.losses, hidden, head_of(model), taught, teachers_head, batch.targets)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _taught(teacher: LanguageModel, rows: Sequence[Rendered], batch: Batch) -> Tensor:
    """The teacher's hidden states (N, G) where the batch's tokens are predicted, however it lays the rows out."""
    trees = batch.segments is not None
    if teacher.trees == trees:
        return hidden_states(teacher.model, batch).index_select(0, batch.sources)
    apart = lay_out(rows, teacher.device, trees=teacher.trees)
    known = hidden_states(teacher.model, apart).index_select(0, apart.sources)[apart.picks]
    return known.new_empty(len(batch.sources), known.shape[1]).index_copy(0, batch.picks, known)
