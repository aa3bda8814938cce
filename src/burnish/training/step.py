"""The one loop over optimiser steps that every kind of training shares."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from burnish.training.optim import MasterOptimizer, Optimization
from burnish.training.state import Keeper, TrainResult

Micro = tuple[int, Callable[[], LossOutput]]
"""Tokens of a micro-batch, and the function that gives its loss."""
Micros = Callable[[list[int], int], tuple[float, Sequence[Micro]]]
"""From the row numbers of a step and a budget of tokens, the step's count of units (tokens or pairs) and its
micro-batches. Losses are sums; they are divided by the step's count, so the cut into micro-batches does not matter."""
SMALLEST = 16
"""Budget of a micro-batch (tokens) below which smaller ones would not help."""


def train(
    lm: LanguageModel, lengths: Sequence[int], micros: Micros, optimization: Optimization, *, label: str, seed: int,
    folder: Path, checkpoint_every_s: float = 60.0, after: Callable[[int, dict[str, float]], None] | None = None,
    dropout: bool = True,
) -> TrainResult:  # fmt: skip
    """Train until the settings' steps are done.

    Before the first step the longest rows go through the model once and are forgotten: if memory does not suffice for
    them, that is known at once. When it runs out, then or later, micro-batches are halved and the step is done again.

    Args:
        lengths: tokens of every row. micros: see `Micros`.
        after: called with every step's number and metrics.
        dropout: whether the model's own dropout is active.
    Raises:
        TrainingError: there is nothing to learn from, a row exceeds the context, a loss is not finite, or one row does
        not fit the memory.
    """
    check_any(len(lengths))
    check_lengths(lengths, lm.context)
    hardware.reset_peak_memory()
    _ = lm.trees  # found out before the noise is seeded and the layers are compiled
    _seed(lm, seed)
    optimizer = MasterOptimizer(
        [(name, value) for name, value in lm.model.named_parameters() if value.requires_grad], optimization
    )
    total = optimization.steps(len(lengths))
    needed = max(1, round(len(lengths) * optimization.epochs))
    plan = steps_of(len(lengths), optimization.batch_size, total, needed, seed, optimization.shuffle)
    keeper = Keeper(folder, optimizer, checkpoint_every_s)
    run = _Run(lm, micros, optimizer, keeper.progress.budget or optimization.micro(lm.device), label)
    lm.model.train(dropout)
    with (
        compiled_layers(lm.model, optimization.compile),
        _interrupts_wait() as interrupted,
        ticker(label, len(plan), "steps", done=keeper.progress.step) as tick,
    ):
        if keeper.progress.step < len(plan):
            longest = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
            run.rehearse(longest[: optimization.batch_size])
        for step in range(keeper.progress.step, len(plan)):
            row = run.step(plan[step], step, optimization.rate(step, len(plan)))
            keeper.progress.budget = run.budget if run.budget < optimization.micro(lm.device) else 0
            keeper.record(row, int(row.pop("units")))
            tick.advance()
            tick.tell(f"loss {row['loss']:.3f}, {row['tokens'] / row['seconds']:,.0f} tokens/s")
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


@dataclass
class _Run:
    """What the steps of one run share."""

    lm: LanguageModel
    micros: Micros
    optimizer: MasterOptimizer
    budget: int
    """Tokens in a micro-batch; halved when memory runs out."""
    label: str

    def step(self, rows: list[int], step: int, rate: float) -> dict[str, float]:
        """One optimiser step: its metrics, and its count of units."""
        began = time.perf_counter()
        count, tokens, loss, metrics = self._fitting(rows, only_first=False)
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step}", where=f"rows {rows[:8]} ...",
                                hint="lower the learning rate, or train in float32")  # fmt: skip
        try:
            norm = self.optimizer.step(rate)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"{self.label}: memory does not suffice for the optimiser's masters and moments",
                hint="train an adapter (`lora: {rank: 16}`), or use a smaller model",
            ) from error
        seconds = time.perf_counter() - began
        return {"step": step, "loss": loss, "rate": rate, "norm": norm, "tokens": tokens, "seconds": seconds, **metrics,
                "units": count}  # fmt: skip

    def rehearse(self, rows: list[int]) -> None:
        """The largest micro-batch of these rows, forward and backward, leaving nothing behind."""
        with _same_noise(self.lm.device):
            self._fitting(rows, only_first=True)
        self.optimizer.drop_gradients()

    def _fitting(self, rows: list[int], *, only_first: bool) -> tuple[float, int, float, dict[str, float]]:
        """Accumulate the gradients of a step, in micro-batches small enough for the memory."""
        while True:
            count, parts = self.micros(rows, self.budget)
            parts = sorted(parts, key=lambda part: -part[0])[:1] if only_first else parts
            try:
                with _same_noise(self.lm.device, only_on_error=True):
                    return count, *self._accumulate(count, parts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(parts, error)

    def _accumulate(self, count: float, parts: Sequence[Micro]) -> tuple[int, float, dict[str, float]]:
        loss, tokens = 0.0, 0
        metrics: dict[str, float] = {}
        for size, compute in parts:
            output = compute()
            (output.total / count).backward()
            loss += float(output.total.detach()) / count
            tokens += size
            for name, value in output.metrics.items():
                metrics[name] = metrics.get(name, 0.0) + value / count
        return tokens, loss, metrics

    def _halve(self, parts: Sequence[Micro], error: Exception) -> None:
        """Go on with smaller micro-batches. Raises TrainingError when they cannot be smaller."""
        self.optimizer.drop_gradients()
        largest = max(size for size, _ in parts)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.budget = min(self.budget, largest) // 2
        if self.budget < SMALLEST:
            raise TrainingError(
                f"{self.label}: memory does not suffice for a micro-batch of {largest} tokens",
                hint="shorten rows (`max_tokens`), train an adapter (`lora: {rank: 16}`), or use a smaller model; for a"
                " loss that must see a whole step at once, lower `batch_size`",
            ) from error
        note(f"{self.label}: out of memory at {largest} tokens; micro-batches of {self.budget} from here on, which"
             " changes results by no more than rounding")  # fmt: skip


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a GPU or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def _same_noise(device: str, only_on_error: bool = False) -> Iterator[None]:
    """Put the streams of random numbers back where they were, always or when this fails."""
    before = torch.get_rng_state(), torch.cuda.get_rng_state_all() if device.startswith("cuda") else []
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed or not only_on_error:
            torch.set_rng_state(before[0])
            if before[1]:
                torch.cuda.set_rng_state_all(before[1])


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
