"""Log-probabilities of whole answers: the policy's as they train, the reference's once and kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish import parallel
from burnish.errors import TrainingError
from burnish.log import ticker
from burnish.models.chat import Rendered
from burnish.models.fusing import fused_layers
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import token_logprobs
from burnish.training.batch import Unit, micro_batches
from burnish.training.optim import Optimization
from burnish.training.step import check_any, row_sums

REFERENCE = "reference.safetensors"
TOLERANCE = {"float32": (1e-3, 1e-7), "bfloat16": (0.5, 1e-3), "float16": (0.1, 1e-4)}
"""Largest mean log-ratio (nats) that rounding explains before the first step, where policy and reference are one model:
a number, and what is added for each nat of an answer's log-probability."""

Sides = Mapping[str, Sequence[Rendered]]
"""Rows side by side that share a prompt: {"chosen": [...], "rejected": [...]}, as many of each."""


@dataclass(frozen=True)
class Reference:
    """Log-probability of every learned token under the reference: of each side one flat tensor, row after row."""

    sides: Mapping[str, Tensor]

    def sums(self, side: str, rows: Sequence[Rendered]) -> Tensor:
        """Weighted sum of each row's log-probabilities, nats, fp64 (B,)."""
        weights = [torch.tensor([weight for weight in row.weights if weight]) for row in rows]
        parts = self.sides[side].split([len(weight) for weight in weights])
        return torch.stack([(part.double() * weight).sum() for part, weight in zip(parts, weights, strict=True)])


def units_of(sides: Sides) -> list[Unit]:
    """The token ids of the rows that stay together."""
    return [[row.ids for row in rows] for rows in zip(*sides.values(), strict=True)]


def learned_tokens(rows: Sequence[Rendered]) -> Tensor:
    """How many tokens of each row are learned (B,)."""
    return torch.tensor([float(sum(map(bool, row.weights))) for row in rows])


def answer_logprobs(lm: LanguageModel, rows: Sequence[Rendered]) -> Tensor:
    """Weighted sum of each row's log-probabilities under the model, nats, fp64 (B,)."""
    batch = lay_out(rows, lm.device, trees=lm.trees)
    return row_sums(token_logprobs(lm.model, batch) * batch.weights, batch.owners, len(rows))


def reference_logprobs(lm: LanguageModel, sides: Sides, folder: Path, optimization: Optimization) -> Reference:
    """The starting model's log-probability of every answer token, computed once and kept in `folder`.

    The passes are laid out as in training, so policy and reference differ at step 0 by rounding alone.
    """
    check_any(len(next(iter(sides.values()))))
    path = folder / REFERENCE
    if parallel.leads() and not path.exists():
        lm.model.eval()
        with torch.inference_mode(), fused_layers(lm.model, not optimization.compile):
            found = _logprobs(lm, sides, optimization.micro(lm.device))
        draft = path.with_name(f".{path.name}")
        save_file(found, draft)
        os.replace(draft, path)  # noqa: PTH105
    parallel.wait()
    return Reference(load_file(path))


def _logprobs(lm: LanguageModel, sides: Sides, budget: int) -> dict[str, Tensor]:
    units = list(zip(*sides.values(), strict=True))
    parts: list[Sequence[Tensor]] = [()] * len(units)
    with ticker("reference", len(units), "rows") as tick:
        for group in micro_batches(units_of(sides), budget, trees=lm.trees):
            rows = [row for number in group for row in units[number]]
            batch = lay_out(rows, lm.device, trees=lm.trees)
            sizes = torch.bincount(batch.owners, minlength=len(rows)).tolist()
            values = token_logprobs(lm.model, batch).cpu().split(sizes)
            for place, number in enumerate(group):
                parts[number] = values[place * len(sides) : (place + 1) * len(sides)]
            tick.advance(len(group))
    return {side: torch.cat([part[place] for part in parts]) for place, side in enumerate(sides)}


def refuse_other_start(lm: LanguageModel, drift: float, nats: float, what: str) -> None:
    """Stop when policy and reference differ before the first step.

    Args:
        drift: the mean difference found. nats: mean size of an answer's log-probability, which rounding grows with.
    """
    least, share = TOLERANCE[lm.dtype]
    if abs(drift) > least + share * nats:
        raise TrainingError(f"the mean {what} before the first step is {drift:.3f} nats, and it must be zero",
                            hint="the reference is not the model that training starts from; remove the step's work"
                            " folder")  # fmt: skip
