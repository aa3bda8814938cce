"""The one loop over optimiser steps that every kind of training shares."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from burnish import hardware
from burnish.errors import TrainingError
from burnish.log import note, ticker
from burnish.models.compiling import compiled_layers
from burnish.models.load import LanguageModel
from burnish.objectives.parts import LossOutput
from burnish.rng import seed_for
from burnish.training.batch import steps_of
from burnish.training.optim import MasterAdamW, Optimization
from burnish.training.state import Keeper, TrainResult

Micro = tuple[int, Callable[[], LossOutput]]
"""Tokens of a micro-batch, and the function that gives its loss."""


def train(
    lm: LanguageModel, rows: int, micros: Callable[[list[int]], tuple[float, Sequence[Micro]]],
    optimization: Optimization, *, label: str, seed: int, folder: Path,
    checkpoint_every_s: float = 60.0, after: Callable[[int, dict[str, float]], None] | None = None,
    dropout: bool = True,
) -> TrainResult:  # fmt: skip
    """Train until the settings' steps are done.

    Args:
        micros: from the row numbers of a step, its count of units (tokens or pairs) and its micro-batches. The losses
        are sums; they are divided by the step's count, so the cut into micro-batches does not matter.
        after: called with every step's number and metrics.
        dropout: whether the model's own dropout is active.
    Raises:
        TrainingError: there is nothing to learn from, or a loss that is not finite.
    """
    if rows == 0:
        raise TrainingError("there are no rows to train on", hint="`burnish show dropped RUN:STEP` says why")
    hardware.reset_peak_memory()
    _seed(lm, seed)
    parameters = [parameter for parameter in lm.model.parameters() if parameter.requires_grad]
    optimizer = MasterAdamW(parameters, optimization)
    total = optimization.steps(rows)
    needed = max(1, round(rows * optimization.epochs))
    plan = steps_of(rows, optimization.batch_size, total, needed, seed, optimization.shuffle)
    keeper = Keeper(folder, optimizer, checkpoint_every_s)
    lm.model.train(dropout)
    with (
        compiled_layers(lm.model, optimization.compile),
        _interrupts_wait() as interrupted,
        ticker(label, len(plan), "steps", done=keeper.progress.step) as tick,
    ):
        for step in range(keeper.progress.step, len(plan)):
            row = _step(plan[step], micros, optimizer, optimization.rate(step, len(plan)), keeper, step)
            tick.advance()
            tick.tell(f"loss {row['loss']:.3f}")
            if after:
                after(step, row)
            if interrupted():
                keeper.save()
                note(f"{label}: stopped at step {keeper.progress.step} of {len(plan)}, checkpoint kept")
                raise KeyboardInterrupt
            keeper.save_if_due()
    lm.model.eval()
    return keeper.finish()


@contextmanager
def _interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is kept until it is asked for, so that no optimiser step is left half done; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():  # where there are no signals to keep
        yield lambda: False
        return
    seen = False

    def keep(number: int, frame: object) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True

    before = signal.signal(signal.SIGINT, keep)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


def _seed(lm: LanguageModel, seed: int) -> None:
    """Dropout draws from torch's global stream; nothing else in the loop does."""
    torch.manual_seed(seed_for(seed, "dropout"))
    if lm.device.startswith("cuda"):
        torch.cuda.manual_seed_all(seed_for(seed, "dropout"))


def _step(rows: list[int], micros: Callable[[list[int]], tuple[float, Sequence[Micro]]], optimizer: MasterAdamW,
          rate: float, keeper: Keeper, step: int) -> dict[str, float]:  # fmt: skip
    began = time.perf_counter()
    count, parts = micros(rows)
    loss = 0.0
    tokens = 0
    metrics: dict[str, float] = {}
    for size, compute in parts:
        output = compute()
        (output.total / count).backward()
        loss += float(output.total.detach()) / count
        tokens += size
        for name, value in output.metrics.items():
            metrics[name] = metrics.get(name, 0.0) + value / count
    if not torch.isfinite(torch.tensor(loss)):
        raise TrainingError(f"the loss is {loss} at step {step}", where=f"rows {rows[:8]} ...",
                            hint="lower the learning rate, or train in float32")  # fmt: skip
    norm = optimizer.step(rate)
    progress = keeper.progress
    progress.step, progress.tokens, progress.learned = step + 1, progress.tokens + tokens, progress.learned + int(count)
    seconds = time.perf_counter() - began
    progress.seconds += seconds
    row = {"step": step, "loss": loss, "rate": rate, "norm": norm, "tokens": tokens, "seconds": seconds, **metrics}
    keeper.record(row)
    return row


def check_any(rows: int) -> None:
    """Refuse to train on nothing."""
    if rows == 0:
        raise TrainingError("there are no rows to train on", hint="`burnish show run` tells which step left none")


def check_lengths(lengths: Sequence[int], context: int) -> None:
    """Refuse rows that the model has no positions for; cutting them is for the caller to decide."""
    for number, length in enumerate(lengths):
        if length > context:
            raise TrainingError(f"row {number} has {length} tokens and the context is {context}",
                                hint="set `overlong: drop` or `overlong: truncate`")  # fmt: skip


def row_sums(values: Tensor, owners: Tensor, rows: int) -> Tensor:
    """Sum values (N,) into their rows (B,), in fp64.

    An answer of 700 tokens may have -7,000 nats, where fp32 counts in steps of 0.0005: a margin between two such sums
    would be noise.
    """
    wide = values.float() if values.device.type == "mps" else values.double()
    return torch.zeros(rows, dtype=wide.dtype, device=values.device).index_add(0, owners, wide)
