"""Checkpoints: all that a run needs to go on to the same bits, written whole or not at all."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from burnish import hardware, parallel
from burnish.log import note
from burnish.training.optim import MasterOptimizer
from burnish.workspace import SCRATCH, write_atomic

CHECKPOINT = f"{SCRATCH}/checkpoint.pt"
METRICS = "metrics.jsonl"
SPARING = 20
"""Checkpoints take at most one part in so many of a run's time."""
COMMON = ("step", "loss", "rate", "norm", "tokens", "seconds", "utilisation")
"""The metrics that every kind of training has, for each step."""


@dataclass
class Progress:
    """Where a run stands after `step` optimiser steps."""

    step: int = 0
    tokens: int = 0
    """Tokens that went through the model, prompts included."""
    learned: float = 0
    """Tokens, by their weights, or pairs that the loss was taken over."""
    seconds: float = 0.0
    budget: int = 0
    """Tokens of a micro-batch since memory ran out; 0 while it has not."""
    looks: list[list[float]] = field(default_factory=list)
    """Steps done, score and the ends of its interval, each time the model was measured."""
    best: int | None = None
    """The number of the best look."""
    worse: int = 0
    """Looks since then."""


@dataclass(frozen=True)
class TrainResult:
    """What a training loop did. Losses are means over the first and last tenth of the steps."""

    steps: int
    tokens: int
    learned: float
    """Tokens, by their weights, or pairs that the loss was taken over."""
    seconds: float
    loss_first: float
    loss_last: float
    utilisation: float
    """Operations that the model needs over those that bare matrix products would have done in the steps' time; tokens
    that rows share count for each row."""
    peak_memory_mib: float
    metrics: dict[str, float]
    """The last step's other metrics."""
    looks: list[list[float]] = field(default_factory=list)
    """Steps done, score and the ends of its 95 % interval, each time the model was measured while it trained."""
    best_step: int | None = None
    """The steps done by the weights that were kept, where looks chose them."""


class Keeper:
    """Writes checkpoints and the metrics file of one run, and picks up what a killed run left."""

    def __init__(self, folder: Path, optimizer: MasterOptimizer, every_s: float) -> None:
        self._folder, self._optimizer, self._every_s = folder, optimizer, every_s
        self._saved, self._took = time.monotonic(), 0.0
        self.progress = Progress()
        self.rows: list[dict[str, float]] = []
        """The metrics of every step so far."""
        self._resume()

    def _resume(self) -> None:
        path = self._folder / CHECKPOINT
        if not parallel.told(path.exists()):
            self._begin_rows()  # a run killed before its first checkpoint begins anew
            return
        # weights_only: tensors, numbers and containers, never code; mmap: each is read when it is copied to its place
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        before, now = state["optimizer"]["kinds"], self._optimizer.kinds
        if before != now:  # `dtype: auto` on another machine
            note(f"the checkpoint in {self._folder} holds {' and '.join(before)} weights, and they are"
                 f" {' and '.join(now)} here: training begins anew")  # fmt: skip
            self._begin_rows()
            return
        self._optimizer.restore(state["optimizer"])
        self.progress = Progress(**state["progress"])
        lines = (self._folder / METRICS).read_text(encoding="utf-8").splitlines()
        self.rows = [json.loads(line) for line in lines[: self.progress.step]]
        parallel.wait()  # all have read the file that one writes anew
        self._begin_rows()

    def record(self, row: dict[str, float], count: float) -> None:
        """Add one step's metrics, and its count of tokens or pairs."""
        progress = self.progress
        progress.step += 1
        progress.tokens += int(row["tokens"])
        progress.learned += count
        progress.seconds += row["seconds"]
        self.rows.append(row)
        if parallel.leads():
            with (self._folder / METRICS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")

    def _begin_rows(self) -> None:
        """Write the steps so far anew; those after the checkpoint are done again."""
        if parallel.leads():
            write_atomic(self._folder / METRICS, "".join(json.dumps(row) + "\n" for row in self.rows))

    def save_if_due(self) -> None:
        """Write a checkpoint when the last one is old enough, and old against the time that it took to write."""
        wait = max(self._every_s, SPARING * self._took) if self._every_s else 0.0
        if parallel.told(time.monotonic() - self._saved >= wait):
            self.save()

    def save(self) -> None:
        """Write a checkpoint; a kill while it is written leaves the one before."""
        began = time.monotonic()
        state: dict[str, Any] = {"optimizer": self._optimizer.state(), "progress": asdict(self.progress)}
        if parallel.leads():
            draft = self._folder / f"{CHECKPOINT}.draft"
            draft.parent.mkdir(exist_ok=True)
            with draft.open("wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self._folder / CHECKPOINT)
        self._saved = time.monotonic()
        self._took = self._saved - began

    def finish(self) -> TrainResult:
        """The result. The last checkpoint stays until the artifact is published."""
        self.save()
        losses = [row["loss"] for row in self.rows]
        tenth = max(1, len(losses) // 10)
        extra = {key: value for key, value in self.rows[-1].items() if key not in COMMON}
        return TrainResult(
            steps=self.progress.step,
            tokens=self.progress.tokens,
            learned=round(self.progress.learned, 3),
            seconds=round(self.progress.seconds, 3),
            loss_first=sum(losses[:tenth]) / tenth,
            loss_last=sum(losses[-tenth:]) / tenth,
            utilisation=sum(row["utilisation"] * row["seconds"] for row in self.rows) / self.progress.seconds,
            peak_memory_mib=hardware.peak_memory_mib(),
            metrics=extra,
            looks=self.progress.looks,
            best_step=None if self.progress.best is None else int(self.progress.looks[self.progress.best][0]),
        )
