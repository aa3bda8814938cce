"""Proofs on a user's own model and rows that what makes training fast does not change it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import TrainingError
from burnish.models.chat import ChatTemplate, Rendered
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import token_logprobs
from burnish.objectives.sft import SFT
from burnish.training.optim import Optimization
from burnish.training.state import CHECKPOINT
from burnish.training.supervised import train_supervised
from burnish.types import Message

TOLERANCE = 1e-4
"""Largest relative difference that rounding explains in fp32."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One equality, and how far it is from holding."""

    name: str
    difference: float
    """Largest difference found: relative, or a count of what is wrong."""
    allowed: float
    detail: str

    @property
    def holds(self) -> bool:
        return self.difference <= self.allowed


Conversation = tuple[tuple[Message, ...], Rendered]
"""Messages, and the tokens they are trained as."""


def served_as_trained(chat: ChatTemplate, conversations: Sequence[Conversation]) -> Proof:
    """Before each learned answer, the token ids of training are those that a served model is asked with."""
    turns = wrong = 0
    for messages, rendered in conversations:
        for turn in rendered.turns:
            if messages[turn.message].role == "assistant":
                turns += 1
                asked = chat.ids(messages[: turn.message], answer=True)
                wrong += tuple(asked) != rendered.ids[: turn.start]
    return Proof("training ids = serving ids", wrong, 0, f"{turns} learned answers in {len(conversations)} rows")


def stops_are_learned(chat: ChatTemplate, conversations: Sequence[Conversation]) -> Proof:
    """Every learned answer ends with a token that ends an answer, and that token is learned."""
    turns = [(row, turn) for messages, row in conversations for turn in row.turns
             if messages[turn.message].role == "assistant"]  # fmt: skip
    wrong = sum(row.ids[turn.stop - 1] not in chat.stop_ids or row.weights[turn.stop - 1] == 0 for row, turn in turns)
    return Proof("stop tokens are learned", wrong, 0, f"{len(turns)} learned answers")


def shared_as_separate(lm: LanguageModel, rows: Sequence[Rendered]) -> Proof:
    """Rows laid out together give the log-probabilities of each row alone."""
    with torch.no_grad():
        batch = lay_out(rows, lm.device, trees=lm.trees)
        together = token_logprobs(lm.model, batch)
        alone = torch.cat([token_logprobs(lm.model, lay_out([row], lm.device, trees=False)) for row in rows])
    tokens = sum(len(row.ids) for row in rows)
    detail = f"{tokens:,} tokens in {batch.tokens:,} computed" + ("" if lm.trees else ", padded")
    return Proof("together = alone", _relative(together, alone), TOLERANCE, detail)


def accumulated_as_whole(lm: LanguageModel, rows: Sequence[Rendered]) -> Proof:
    """The gradient of one batch is that of its rows one by one."""
    whole = _gradient(lm, [rows])
    single = _gradient(lm, [[row] for row in rows])
    return Proof("1 x N = N x 1", _relative(whole, single), TOLERANCE, f"gradient of {len(rows)} rows")


def resumed_as_uninterrupted(load: Callable[[], LanguageModel], rows: Sequence[Rendered]) -> Proof:
    """A run that is killed and resumed ends with the bits of one that was not. Difference: weights that differ."""
    settings = Optimization(batch_size=max(1, len(rows) // 4))
    steps = settings.steps(len(rows))
    finished = []
    for killed in (False, True):
        with tempfile.TemporaryDirectory() as name:
            if killed:
                with suppress(_Killed):
                    _train(load(), rows, settings, Path(name), _die_at(steps // 2))
                if not (Path(name) / CHECKPOINT).exists():
                    raise TrainingError("nothing was there to resume from", hint="more rows are needed: -n 8")
            lm = load()
            _train(lm, rows, settings, Path(name), None)
            finished.append([weight.detach().cpu() for weight in lm.model.parameters()])
    different = sum(int((a != b).sum()) for a, b in zip(*finished, strict=True))
    return Proof("resumed = uninterrupted", different, 0, f"killed at step {steps // 2} of {steps}, to the same bits")


class _Killed(Exception):
    """Stands for `kill -9`."""


def _die_at(step: int) -> Callable[[int, dict[str, float]], None]:
    def after(number: int, _: dict[str, float]) -> None:
        if number == step:
            raise _Killed

    return after


def _train(lm: LanguageModel, rows: Sequence[Rendered], settings: Optimization, folder: Path,
           after: Callable[[int, dict[str, float]], None] | None) -> None:  # fmt: skip
    train_supervised(lm, rows, SFT(), settings, seed=0, folder=folder, checkpoint_every_s=0.0, after=after)


def _gradient(lm: LanguageModel, batches: Sequence[Sequence[Rendered]]) -> Tensor:
    lm.model.zero_grad()
    for rows in batches:
        batch = lay_out(rows, lm.device, trees=lm.trees)
        SFT().loss(token_logprobs(lm.model, batch), batch.weights).total.backward()
    found = [weight.grad.flatten().cpu() for weight in lm.model.parameters() if weight.grad is not None]
    lm.model.zero_grad()
    return torch.cat(found)


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))
