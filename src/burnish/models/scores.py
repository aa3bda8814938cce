"""The one number that a reward model gives for all that was said up to a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.log import ticker
from burnish.models.chat import Rendered
from burnish.models.layout import Batch, lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import hidden_states, of_whole
from burnish.types import STEP, Example, Message

PLACES = 16
"""Rows that are scored together."""


@of_whole
def token_scores(model: Any, batch: Batch) -> Tensor:
    """The scores, fp32 (M,), at the tokens that the batch's weights mark, row after row."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    states = hidden_states(model, batch).index_select(0, batch.places)
    scores: Tensor = inner.score(states)[:, 0].float()
    return scores


def at_the_end(row: Rendered) -> Rendered:
    """The row with its last learned token alone marked: where the score of a whole answer is read."""
    place = max(place for place, weight in enumerate(row.weights) if weight)
    return _marked(row, [place])


def at_the_steps(row: Rendered, steps: int, tokenizer: Any) -> Rendered:
    """The row with the last token of each step of its answer marked.

    A step ends with what separates it from the next one, the last step with the answer's stop token. Raises ValueError
    when the answer has another number of steps.
    """
    turn = row.turns[-1]
    marks: list[int] = []
    waiting: list[int] = []
    for place in range(turn.start, turn.stop - 1):
        waiting.append(row.ids[place])
        if STEP in tokenizer.decode(waiting):  # which may be one token, several, or a part of one
            marks.append(place)
            waiting = []
    marks.append(turn.stop - 1)
    if len(marks) != steps:
        raise ValueError(f"the answer has {len(marks)} steps as it is tokenized, and {steps} labels")
    return _marked(row, marks)


def _marked(row: Rendered, places: Sequence[int]) -> Rendered:
    marks = set(places)
    return Rendered(row.ids, tuple(1.0 if place in marks else 0.0 for place in range(len(row.ids))), row.turns)


def score_answers(lm: LanguageModel, rows: Sequence[tuple[Sequence[Message], str]]) -> list[float | str]:
    """A reward model's score of each (prompt, answer); of what is longer than its context, why there is none."""
    marked = [at_the_end(lm.chat.answer_ids(prompt, answer)) for prompt, answer in rows]
    found = iter(_read(lm, [row for row in marked if len(row.ids) <= lm.context], "scores"))
    return [next(found)[0] if len(row.ids) <= lm.context
            else f"too long for the reward model: {len(row.ids)} tokens, and the context is {lm.context}"
            for row in marked]  # fmt: skip


def score_steps(lm: LanguageModel, rows: Sequence[Example]) -> list[list[float]]:
    """For each conversation, how likely each step of its last answer is right under a process reward model, 0 to 1."""
    marked = []
    for row in rows:
        rendered = lm.chat.answer_ids(row.messages[:-1], row.messages[-1].content)
        marked.append(at_the_steps(rendered, row.messages[-1].content.count(STEP) + 1, lm.tokenizer))
    return [[float(torch.sigmoid(torch.tensor(score))) for score in scores] for scores in _read(lm, marked, "steps")]


@torch.inference_mode()  # type: ignore[untyped-decorator]
def _read(lm: LanguageModel, rows: Sequence[Rendered], label: str) -> list[list[float]]:
    lm.model.eval()
    found: list[list[float]] = []
    with ticker(label, len(rows), "answers") as tick:
        for start in range(0, len(rows), PLACES):
            part = rows[start : start + PLACES]
            batch = lay_out(part, lm.device, trees=lm.trees)
            scores = token_scores(lm.model, batch).tolist()
            owners = batch.owners.tolist()
            found += [[score for score, owner in zip(scores, owners, strict=True) if owner == number]
                      for number in range(len(part))]  # fmt: skip
            tick.advance(len(part))
    return found
