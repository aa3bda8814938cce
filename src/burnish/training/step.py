"""The one loop over optimiser steps that every kind of training shares."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Required, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor

from burnish import hardware, parallel
from burnish.errors import TrainingError
from burnish.log import note, ticker
from burnish.models import native
from burnish.models.attention import trees
from burnish.models.chat import Rendered
from burnish.models.compiling import compiled_layers, layers_of
from burnish.models.embedding import gradients_by_row
from burnish.models.fusing import fused_layers
from burnish.models.load import LanguageModel
from burnish.models.logprobs import backbone_of, freeze_unread
from burnish.objectives.parts import LossOutput
from burnish.rng import seed_for
from burnish.training.batch import plan_of
from burnish.training.optim import MasterOptimizer, Optimization
from burnish.training.sharding import dealt, sharded, sum_gradients
from burnish.training.state import Keeper, TrainResult
from burnish.training.watch import Watch, Watcher

T = TypeVar("T")
Micro = tuple[int, Callable[[], LossOutput]]
"""Tokens of a micro-batch, and the function that gives its loss."""
Micros = Callable[[list[int], int], tuple[float, Sequence[Micro]]]
"""From the row numbers of a step and a budget of tokens, the step's count of units (tokens or pairs) and its
micro-batches. Losses are sums; they are divided by the step's count, so the cut into micro-batches does not matter."""
After = Callable[[int, dict[str, float]], None]
SMALLEST = 16
"""Budget of a micro-batch (tokens) below which smaller ones would not help."""


class RunOptions(TypedDict, total=False):
    """What every training loop takes beside its rows, its objective and the optimisation."""

    seed: Required[int]
    folder: Required[Path]
    """Where metrics.jsonl goes, and the checkpoint that a killed run resumes from."""
    checkpoint_every_s: float
    """Seconds between checkpoints; 60 when left out."""
    after: After | None
    """Called with every step's number and metrics, with the score of what is watched where the model was measured."""
    watch: Watch | None
    """What is measured while it trains, and when it stops early."""


def train(
    lm: LanguageModel, units: Sequence[Sequence[Rendered]], micros: Micros, optimization: Optimization, *, label: str,
    check: After | None = None, dropout: bool = True, **options: Unpack[RunOptions],
) -> TrainResult:  # fmt: skip
    """Train until the settings' steps are done, or until what is watched gets better no more.

    Before the first step the longest rows go through the model once and are forgotten: if memory does not suffice for
    them, that is known at once. When it runs out, then or later, micro-batches are halved and the step is done again.

    Args:
        units: rows that stay together, a conversation or both answers of a pair. micros: see `Micros`.
        check: called with every step's number and metrics; may raise.
        dropout: whether the model's own dropout is active.
    Raises:
        TrainingError: there is nothing to learn from, a row exceeds the context, a loss or a gradient is not finite, or
        one row does not fit the memory.
    """
    check_any(len(units))
    lengths = [max(len(row.ids) for row in rows) for rows in units]
    check_lengths(lengths, lm.longest)
    hardware.reset_peak_memory()
    _ = lm.trees  # found out before the noise is seeded and the layers are compiled
    if frozen := freeze_unread(lm.model):
        note(f"{label}: {frozen:,} parameters that text does not pass through stay as they are")
    operations = lm.operations  # counted while the weights are whole
    plan = plan_of(units, optimization, options["seed"])
    with (
        _training_mode(lm, dropout, optimization.checkpointing) as back_to_training,
        hardware.freed_memory_kept(),
        native.released(),
        fused_layers(lm.model, not optimization.compile),  # a compiler fuses for itself
        compiled_layers(lm.model, optimization.compile),
        gradients_by_row(lm.model, not optimization.shard) as add_rows,
        sharded(lm.model, optimization.shard) as split,
    ):
        with _memory_of_optimizer(label):
            optimizer = MasterOptimizer(
                [(name, value) for name, value in lm.model.named_parameters() if value.requires_grad], optimization
            )
        keeper = Keeper(options["folder"], optimizer, options.get("checkpoint_every_s", 60.0))
        watcher = Watcher(options.get("watch"), lm.model, keeper.progress, options["folder"], len(plan))
        run = _Run(
            lm, micros, lengths, optimizer, add_rows, keeper.progress.budget or optimization.micro(lm.device), label,
            seed=options["seed"], split=split, operations=operations, reduced=keeper.progress.budget,
        )  # fmt: skip
        if check:
            for row in keeper.rows:  # those before a kill
                check(int(row["step"]), row)
        for step, row in _steps(run, plan, keeper, watcher):
            if check:
                check(step, row)
            if watcher.due(step):
                row = row | watcher.look(step)
                back_to_training()
            if after := options.get("after"):
                after(step, row)
        result = keeper.finish()
    watcher.take_best()
    return result


@contextmanager
def _training_mode(lm: LanguageModel, dropout: bool, checkpointing: bool) -> Iterator[Callable[[], None]]:
    """Training mode where the model's noise is wanted, else evaluation mode, but for layers that are to keep less: they
    do so in training mode alone. Gives what sets it again; afterwards the model is as it was, in evaluation mode."""
    layers = layers_of(lm.model) if checkpointing and not dropout else []
    noise = [(layer, name, value) for layer in layers for name, value in vars(layer).items()
             if "dropout" in name and isinstance(value, float)]  # fmt: skip

    def begin() -> None:
        lm.model.train(dropout)
        for layer in layers:
            layer.training = True

    if checkpointing:
        keep_less(lm)
    for layer, name, _ in noise:
        setattr(layer, name, 0.0)
    try:
        begin()
        yield begin
    finally:
        lm.model.eval()
        for layer, name, value in noise:
            setattr(layer, name, value)
        if checkpointing:
            lm.model.gradient_checkpointing_disable()


def _steps(run: _Run, plan: Sequence[list[int]], keeper: Keeper, watcher: Watcher
           ) -> Iterator[tuple[int, dict[str, float]]]:  # fmt: skip
    """Do the steps that are left, each with its metrics, and keep them. Ctrl-C stops after a whole step."""
    begun = keeper.progress.step
    with _interrupts_wait() as interrupted, ticker(run.label, len(plan), "steps", done=begun) as tick:
        if begun < len(plan) and not watcher.over:
            if run.lm.device.startswith("cuda"):
                note(f"{run.label}: compiling kernels for this GPU, up to a minute; they are kept for later runs")
            run.rehearse(plan)
        for step in range(begun, len(plan)):
            if watcher.over:
                break
            row = run.step(plan[step], step, run.optimizer.rate(step, len(plan)))
            keeper.progress.budget = run.reduced
            keeper.record(row, row.pop("count"))
            tick.advance()
            tick.tell(f"loss {row['loss']:.3f}, {row['tokens'] / row['seconds']:,.0f} tokens/s,"
                      f" MFU {row['utilisation']:.0%}")  # fmt: skip
            yield step, row
            if parallel.anywhere(interrupted()):
                keeper.save()
                note(f"{run.label}: stopped at step {keeper.progress.step} of {len(plan)}, checkpoint kept")
                raise KeyboardInterrupt
            keeper.save_if_due()


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


@dataclass
class _Run:
    """What the steps of one run share."""

    lm: LanguageModel
    micros: Micros
    lengths: Sequence[int]
    optimizer: MasterOptimizer
    add_rows: Callable[[], None]
    """Adds the gradients of embeddings that wait (see `gradients_by_row`)."""
    budget: int
    """Tokens in a micro-batch; halved when memory runs out."""
    label: str
    seed: int
    split: bool
    """Whether the model's weights are split over processes."""
    operations: int
    """Of a token (`LanguageModel.operations`)."""
    reduced: int = 0
    """The budget since memory ran out; 0 while it has not."""

    @cached_property
    def _ideal(self) -> float:
        """Tokens a second if all processes did nothing but matrix products."""
        return hardware.matmul_rate(self.lm.dtype) * parallel.size() / self.operations

    def step(self, rows: list[int], step: int, rate: float) -> dict[str, float]:
        """One optimiser step: its metrics, and its count of tokens or pairs."""
        began = time.perf_counter()
        count, tokens, loss, metrics = self._fitting(rows, step)
        _check_finite("loss", loss, rows, step)
        with _memory_of_optimizer(self.label):
            if not self.split:
                sum_gradients(self.optimizer.parameters)
            norm = self.optimizer.step(rate)
        _check_finite("gradient's norm", norm, rows, step)
        seconds = time.perf_counter() - began
        return {"step": step, "loss": loss, "rate": rate, "norm": norm, "tokens": tokens, "seconds": seconds,
                "utilisation": tokens / seconds / self._ideal, **metrics, "count": count}  # fmt: skip

    def rehearse(self, plan: Sequence[list[int]]) -> None:
        """The largest micro-batch of the longest rows, forward and backward, leaving nothing behind."""
        longest = sorted(range(len(self.lengths)), key=lambda row: (-self.lengths[row], row))
        self._fitting(longest[: max(map(len, plan))], step=-1)
        self.optimizer.drop_gradients()

    def _fitting(self, rows: list[int], step: int) -> tuple[float, int, float, dict[str, float]]:
        """Accumulate the gradients of a step (of its largest micro-batch alone in a rehearsal, step -1), in
        micro-batches small enough for the memory of every process."""
        while True:
            share = -(-sum(self.lengths[row] for row in rows) // parallel.size())
            count, parts = self.micros(rows, min(self.budget, share) if parallel.size() > 1 else self.budget)
            mine = dealt(parts, even=self.split)[: 1 if step < 0 else None]
            found, trouble = None, None
            try:
                # Dropout draws from torch's global stream; nothing else in the loop does.
                torch.manual_seed(seed_for(self.seed, "dropout", step, parallel.rank()))
                found = self._accumulate(count, mine)
            except RuntimeError as error:
                if not hardware.is_out_of_memory(error):
                    raise
                trouble = error
            if not parallel.anywhere(trouble is not None) and found is not None:
                return count, *self._over_all(*found)
            self._halve(rows, parts, trouble)

    def _accumulate(self, count: float, parts: Sequence[tuple[int, Callable[[], LossOutput], bool]]
                    ) -> tuple[int, float, dict[str, float]]:  # fmt: skip
        loss, tokens = 0.0, 0
        metrics: dict[str, float] = {}
        for size, compute, counts in parts:
            output = compute()
            (output.total * (counts / count)).backward()
            self.add_rows()
            if not counts:
                continue
            loss += float(output.total.detach()) / count
            tokens += size
            for name, value in output.metrics.items():
                metrics[name] = metrics.get(name, 0.0) + value / count
        return tokens, loss, metrics

    @staticmethod
    def _over_all(tokens: int, loss: float, metrics: dict[str, float]) -> tuple[int, float, dict[str, float]]:
        """The sums over all processes. One that had no micro-batch in this step does not know the metrics' names."""
        names = parallel.told(list(metrics))  # the leader has the largest micro-batch of every step
        total = parallel.sums([float(tokens), loss, *(metrics.get(name, 0.0) for name in names)])
        return int(total[0]), total[1], dict(zip(names, total[2:], strict=True))

    def _halve(self, rows: list[int], parts: Sequence[Micro], error: Exception | None) -> None:
        """Go on with smaller micro-batches. Raises TrainingError when they cannot be smaller."""
        self.optimizer.drop_gradients()
        _release()
        largest = smaller = max(size for size, _ in parts)
        self.budget = min(self.budget, largest)
        while smaller == largest and self.budget >= SMALLEST:  # rows may share more than half of their tokens
            self.budget //= 2
            smaller = max(size for size, _ in self.micros(rows, self.budget)[1])
        self.reduced = self.budget
        if smaller == largest or self.split:  # processes that wait for each other's weights cannot begin again
            raise TrainingError(
                f"{self.label}: memory does not suffice for a micro-batch of {largest} tokens",
                hint="lower `micro_tokens`, shorten rows (`max_tokens`), set `checkpointing: true`, train an adapter"
                " (`lora: {rank: 16}`), or use a smaller model; for a loss that must see a whole step at once, lower"
                " `batch_size`",
            ) from error
        note(f"{self.label}: out of memory at {largest} tokens; micro-batches of {self.budget} from here on, which"
             " changes results by no more than rounding")  # fmt: skip


def halved(compute: Callable[[int], T], budget: int, label: str) -> T:
    """What a function of a budget of tokens gives, at half the budget whenever memory runs out in any process."""
    while True:
        trouble, found = None, None
        try:
            found = compute(budget)
        except RuntimeError as error:
            if not hardware.is_out_of_memory(error) or budget < 2 * SMALLEST:
                raise
            trouble = error
        if not parallel.anywhere(trouble is not None) and found is not None:
            return found
        budget //= 2
        _release()
        note(f"{label}: out of memory; passes of {budget} tokens from here on")


def _release() -> None:
    """Give memory back that is held for what comes next."""
    native.release()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _check_finite(name: str, value: float, rows: list[int], step: int) -> None:
    if not math.isfinite(value):
        raise TrainingError(f"the {name} is {value} at step {step}", where=f"rows {rows[:8]} ...",
                            hint="lower the learning rate, or train in float32")  # fmt: skip


@contextmanager
def _memory_of_optimizer(label: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not hardware.is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{label}: memory does not suffice for the optimiser's masters and moments",
            hint="train an adapter (`lora: {rank: 16}`), take `optimizer: adamw8bit`, or use a smaller model",
        ) from error


def keep_less(lm: LanguageModel) -> None:
    """Let layers keep their inputs alone. What they make again in the backward pass, they make as the first time.

    Raises TrainingError for a family that cannot.
    """
    backbone = backbone_of(lm.model)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), trees(backbone) if lm.trees else nullcontext()

    try:
        lm.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})
    except ValueError as error:
        raise TrainingError(f"{error}", where="train.checkpointing", hint="leave it out, and lower `micro_tokens`"
                            ) from None  # fmt: skip


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
    return torch.zeros(rows, dtype=torch.float64, device=values.device).index_add(0, owners, values.double())
