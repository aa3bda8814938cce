"""Proofs on a user's own model and rows that what makes training fast does not change it.

What is proven of training is proven of a step's own: its loss, adapter, optimiser and settings, on a few of its rows.
The proofs see it as a `Fit`, and read what it did out of its checkpoint.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor

from burnish.errors import TrainingError
from burnish.models.chat import ChatTemplate, Rendered
from burnish.models.load import LanguageModel
from burnish.models.scores import at_the_end
from burnish.training.labelled import RenderedAnswer
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, discounted
from burnish.training.reward import RenderedSteps
from burnish.training.state import CHECKPOINT
from burnish.training.step import After
from burnish.types import Example, Message, PreferencePair

TOLERANCE = 1e-4
"""Largest relative difference that rounding explains in fp32."""
AWAY = 1e-3
"""Least learning rate of the step away from the start."""
AWAY_B = 10.0
"""Least multiple of it for an adapter's B matrices: they start at zero and are all that moves in that step."""
TOGETHER = 1 << 30
"""Tokens of a micro-batch that takes all rows."""


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


# ------------------------------------------------------------------------------------------------------ rows as tokens


Conversation = tuple[tuple[Message, ...], Rendered]
"""Messages, and the tokens they are trained as."""


def conversations(rows: Sequence[Example | PreferencePair], rendered: Sequence[Any], objective: Any
                  ) -> list[Conversation]:  # fmt: skip
    """Rows and what a step renders them as, side by side; of a pair there is one conversation for each answer.

    Args:
        rendered: of these rows, none dropped. objective: says how their tokens count.
    """
    said = [messages for row in rows for messages in _said(row)]
    return list(zip(said, [one for row in rendered for one in _weighed(row, objective)], strict=True))


def _said(row: Example | PreferencePair) -> list[tuple[Message, ...]]:
    if isinstance(row, Example):
        return [row.messages]
    return [(*row.prompt, Message("assistant", answer)) for answer in (row.chosen, row.rejected)]


def _weighed(row: Any, objective: Any) -> list[Rendered]:
    """The conversations of a rendered row, their tokens weighed as the loss weighs them."""
    if isinstance(row, RenderedPair) and objective.unit == "comparison":
        return [at_the_end(row.chosen), at_the_end(row.rejected)]
    if isinstance(row, RenderedPair):
        (pair,) = discounted([row], objective.tail)
        return [pair.chosen, pair.rejected]
    if isinstance(row, RenderedAnswer):
        return [row.answer]
    return [row.row if isinstance(row, RenderedSteps) else row]


def served_as_trained(chat: ChatTemplate, found: Sequence[Conversation]) -> Proof:
    """Before each learned answer, the token ids of training are those that a served model is asked with."""
    turns = wrong = 0
    detail = ""
    for number, (messages, rendered) in enumerate(found, 1):
        for turn in rendered.turns:
            if messages[turn.message].role == "assistant":
                turns += 1
                asked, trained = tuple(chat.ids(messages[: turn.message], answer=True)), rendered.ids[: turn.start]
                wrong += asked != trained
                if asked != trained and not detail:
                    where = f"conversation {number}, message {turn.message + 1}"
                    detail = f"; {where}: {_first_difference(chat, trained, asked)}"
    return Proof("training ids = serving ids", wrong, 0,
                 f"{turns:,} learned answers in {len(found):,} conversations{detail}")  # fmt: skip


def _first_difference(chat: ChatTemplate, trained: tuple[int, ...], asked: tuple[int, ...]) -> str:
    """Where what is trained before an answer stops being what a served model is asked with."""
    same = next((place for place, (one, other) in enumerate(zip(trained, asked, strict=False)) if one != other),
                min(len(trained), len(asked)))  # fmt: skip
    ours, theirs = (chat.tokenizer.decode(ids[max(0, same - 4) : same + 8]) for ids in (trained, asked))
    return (f"{ours!r} is trained, {theirs!r} is asked (if the template writes earlier answers otherwise, learn the"
            " last one alone: `train: false` on the others)")  # fmt: skip


def stops_are_learned(chat: ChatTemplate, found: Sequence[Conversation]) -> Proof:
    """Every learned answer ends with a token that ends an answer, and that token is learned."""
    ends = [(row.ids[turn.stop - 1], row.weights[turn.stop - 1]) for messages, row in found for turn in row.turns
            if messages[turn.message].role == "assistant"]  # fmt: skip
    wrong = sum(token not in chat.stop_ids or weight == 0 for token, weight in ends)
    counts = Counter(token for token, _ in ends).most_common()
    name = chat.tokenizer.convert_ids_to_tokens
    said = ", ".join(f"{count:,} answers end with {name(token)}" for token, count in counts)
    return Proof("stop tokens are learned", wrong, 0, f"{said}; generation stops at {' or '.join(name(chat.stop_ids))}")


# --------------------------------------------------------------------------------------------------- training as it is


Way = Literal["own", "exact", "plain"]
"""own: as the step says; exact: in fp32 without dropout, so that only rounding differs; plain: so, and every row padded
instead of as token trees."""
Fit = Callable[[Optimization, Path, Way, After | None], LanguageModel]
"""A step's training on a few rows, from its start or from the checkpoint in a folder, where it leaves one."""


def cut_as_whole(fit: Fit, train: Optimization, rows: int) -> list[Proof]:
    """The gradient of all rows, however they go through the model.

    It is that of a second optimiser step, some way from the start: there a fresh adapter, a reward model's head, every
    log-ratio and the distance to a teacher who is the student are zero, and so is what they are multiplied by.
    """
    # Without momentum, AdamW's first moment is the last step's gradient.
    train = train.model_copy(update={"batch_size": rows, "epochs": 2.0, "max_steps": 2, "micro_tokens": TOGETHER,
                                     "optimizer": "adamw32bit", "betas": (0.0, 0.95), "clip": math.inf,
                                     "learning_rate": max(AWAY, train.learning_rate),
                                     "lora_b": max(AWAY_B, train.lora_b)})  # fmt: skip
    single = train.model_copy(update={"micro_tokens": 1})
    bare = single.model_copy(update={"checkpointing": False, "compile": False})
    ways: dict[str, tuple[Optimization, Way]] = {
        "whole": (train, "exact"), "single": (single, "exact"), "alone": (bare, "plain"),
    }  # fmt: skip
    with TemporaryDirectory() as name:
        start = Path(name, "start")
        start.mkdir()
        trees = fit(train.model_copy(update={"max_steps": 1}), start, "exact", None).trees
        for way, (settings, how) in ways.items():
            shutil.copytree(start, Path(name, way))
            fit(settings, Path(name, way), how, None)
        cut, shared = (_apart(_moments(Path(name, way)), _moments(Path(name, "whole"))) for way in ("single", "alone"))
    laid = "as token trees" if trees else "padded"
    return [
        Proof("1 x N = N x 1", cut, TOLERANCE, f"gradient of {rows} rows in one batch and one by one"),
        Proof("together = alone", shared, TOLERANCE, f"gradient of {rows} rows {laid} and each alone, in plain layers"),
    ]


def resumed_as_uninterrupted(fit: Fit, train: Optimization, rows: int) -> Proof:
    """A run that is killed and resumed ends with the bits of one that was not, in the weights and in the optimiser.
    Difference: bytes that differ."""
    train = train.model_copy(update={"batch_size": max(1, rows // 4), "epochs": 1.0, "max_steps": None})
    steps = train.steps(rows)
    with TemporaryDirectory() as name:
        through, killed = Path(name, "through"), Path(name, "killed")
        through.mkdir()
        killed.mkdir()
        fit(train, through, "own", None)
        with suppress(_Killed):
            fit(train, killed, "own", _die_at(steps // 2))
        if not (killed / CHECKPOINT).exists():
            raise TrainingError("a killed run left no checkpoint to resume from", hint="does the step's `fit` pass its"
                                " options on to the loop?")  # fmt: skip
        fit(train, killed, "own", None)
        different = sum(int((a != b).sum()) for a, b in zip(_bytes(through), _bytes(killed), strict=True))
    detail = f"{train.optimizer} killed in step {steps // 2 + 1} of {steps}, to the same bits"
    return Proof("resumed = uninterrupted", different, 0, detail)


class _Killed(Exception):
    """Stands for `kill -9`."""


def _die_at(step: int) -> After:
    def after(number: int, _: dict[str, float]) -> None:
        if number == step:
            raise _Killed

    return after


def quieten(model: torch.nn.Module) -> None:
    """Take all dropout out of a model: it is drawn anew for every cut into micro-batches."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _optimizer(folder: Path) -> dict[str, Any]:
    """The optimiser's state in the checkpoint of a run; it stays on the disk until it is looked at."""
    state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
    found: dict[str, Any] = state["optimizer"]
    return found


def _moments(folder: Path) -> list[Tensor]:
    return [one["exp_avg"] for one in _optimizer(folder)["moments"]]


def _bytes(folder: Path) -> list[Tensor]:
    state = _optimizer(folder)
    held = [value for one in state["moments"] for value in one.values() if isinstance(value, Tensor)]
    return [one.flatten().view(torch.uint8) for one in (*(part for both in state["masters"] for part in both), *held)]


def _apart(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The length of the difference over that of what is expected; not a number where all of it is zero, which proves
    nothing."""
    difference = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(found, expected, strict=True))
    length = sum(float(b.double().square().sum()) for b in expected)
    return math.sqrt(difference / length) if length else math.nan
