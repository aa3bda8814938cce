"""A dev task that is measured while a model trains: its best weights are kept, and training may stop early."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from burnish import parallel
from burnish.errors import TrainingError
from burnish.log import note
from burnish.training import sharding
from burnish.training.state import Progress
from burnish.workspace import SCRATCH, write_atomic

LOOKS = "watch.jsonl"
"""Every look: the number of steps done, the score, and its 95 % interval."""
BEST = f"{SCRATCH}/best.safetensors"


class Seen(NamedTuple):
    """A score with its 95 % interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Watch:
    """What is measured, and how often."""

    measure: Callable[[int], Seen]
    """What the model scores as it is after so many steps; higher is better."""
    every: int
    """Steps between looks; the last step is always looked at."""
    patience: int | None = None
    """Stop after so many looks in a row that were no better than the best; None: never."""
    name: str = "dev"


class Watcher:
    """The looks of one run. What it knows is in `progress`, so that a resumed run knows it too."""

    def __init__(self, watch: Watch | None, model: Any, progress: Progress, folder: Path, steps: int) -> None:
        self._watch, self._model, self._progress = watch, model, progress
        self._folder, self._steps = folder, steps

    @property
    def over(self) -> bool:
        """Whether nothing got better for too long."""
        patience = self._watch.patience if self._watch else None
        return patience is not None and self._progress.worse >= patience

    def due(self, step: int) -> bool:
        """Whether the model is to be measured after step 0, 1, ..."""
        return self._watch is not None and ((step + 1) % self._watch.every == 0 or step + 1 == self._steps)

    def look(self, step: int) -> dict[str, float]:
        """Measure the model, and keep its trained weights if none were better; the score by its name.

        Raises TrainingError when nothing could be scored.
        """
        assert self._watch is not None
        self._model.eval()
        seen = Seen(*parallel.told(self._watch.measure(step + 1) if parallel.leads() else None))
        progress = self._progress
        if math.isnan(seen.score):
            raise TrainingError(f"{self._watch.name} has no score after step {step + 1}", where="watch",
                                hint="watch a suite that can be graded without a judge")  # fmt: skip
        best = progress.looks[progress.best][1] if progress.best is not None else -math.inf
        progress.looks.append([step + 1, *seen])
        kept = seen.score >= best  # among equals the one that has learned most
        if kept:
            progress.best = len(progress.looks) - 1
            self._keep()
        progress.worse = 0 if seen.score > best else progress.worse + 1
        if parallel.leads():
            lines = [json.dumps({"step": done, **Seen(*found)._asdict()}) + "\n" for done, *found in progress.looks]
            write_atomic(self._folder / LOOKS, "".join(lines))
        said = f"{self._watch.name} {seen.score:.1%} ({seen.low:.1%} to {seen.high:.1%})"
        rank = ", the best" if seen.score > best else ", as good as the best" if kept else ""
        note(f"step {step + 1} of {self._steps}: {said}{rank}")
        if self.over:
            note(f"{self._watch.name} was no better in {progress.worse} looks; training stops")
        return {self._watch.name: seen.score}

    def _keep(self) -> None:
        held = {name: sharding.whole(p.detach()).cpu() for name, p in self._trained()}
        if parallel.leads():
            path = self._folder / BEST
            path.parent.mkdir(exist_ok=True)
            draft = path.with_name(".best")
            save_file({name: tensor.contiguous() for name, tensor in held.items()}, draft)
            os.replace(draft, path)  # noqa: PTH105

    def take_best(self) -> None:
        """Give the model its best weights, where the last ones were not."""
        progress = self._progress
        if progress.best is None or progress.best == len(progress.looks) - 1:
            return
        done, score, *_ = progress.looks[progress.best]
        note(f"the weights of step {done} are kept, the best of {len(progress.looks)} looks ({score:.1%})")
        if parallel.leads():
            held = load_file(self._folder / BEST)
            with torch.no_grad():
                for name, parameter in self._trained():
                    parameter.copy_(held[name])

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, value) for name, value in self._model.named_parameters() if value.requires_grad]
