"""Log-probabilities of whole answers: the policy's as they train, the reference's once and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish import parallel
from burnish.code import version
from burnish.errors import TrainingError
from burnish.log import note, ticker
from burnish.models.chat import Rendered
from burnish.models.experts import stored
from burnish.models.fusing import fused_layers
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import token_logprobs
from burnish.training.batch import parts_of, plan_of
from burnish.training.optim import Optimization
from burnish.training.state import CHECKPOINT
from burnish.training.step import check_any, halved, row_sums
from burnish.workspace import digest

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest mean difference (nats a token) that rounding explains where policy and reference are one model: most of it
is that of an adapter whose start was taken out of rounded weights (PiSSA)."""
COMPARED = 8
"""Rows on which policy and reference are compared before the first step."""

Sides = Mapping[str, Sequence[Rendered]]
"""Rows side by side that share a prompt: {"chosen": [...], "rejected": [...]}, as many of each."""


@dataclass(frozen=True)
class Reference:
    """Log-probability of every learned token under the reference: of each side one flat tensor, row after row."""

    sides: Mapping[str, Tensor]
    id: str
    """Hash of all that they follow from: the model's weights, its adapter's too, the rows, and how it was done."""
    numbers: Sequence[int]
    """Which rows they are of: those that training draws."""

    def sums(self, side: str, rows: Sequence[Rendered]) -> Tensor:
        """Weighted sum of each row's log-probabilities, nats, fp64 (B,); NaN where they are not known."""
        weights = [torch.tensor([weight for weight in rows[number].weights if weight]) for number in self.numbers]
        parts = self.sides[side].split([len(weight) for weight in weights])
        found = torch.full((len(rows),), torch.nan, dtype=torch.float64)
        for number, part, weight in zip(self.numbers, parts, weights, strict=True):
            found[number] = (part.double() * weight).sum()
        return found


def learned_tokens(rows: Sequence[Rendered]) -> Tensor:
    """How many tokens of each row are learned (B,)."""
    return torch.tensor([float(sum(map(bool, row.weights))) for row in rows])


def answer_logprobs(lm: LanguageModel, rows: Sequence[Rendered]) -> Tensor:
    """Weighted sum of each row's log-probabilities under the model, nats, fp64 (B,)."""
    batch = lay_out(rows, lm.device, trees=lm.trees)
    return row_sums(token_logprobs(lm.model, batch) * batch.weights, batch.owners, len(rows))


def reference_logprobs(lm: LanguageModel, sides: Sides, folder: Path, optimization: Optimization, seed: int
                       ) -> Reference:  # fmt: skip
    """The starting model's log-probability of every answer token that training with this seed draws, computed once and
    kept in `folder` by its hash, for every epoch, loss, beta and seed that starts from the same model with the same
    rows.

    The passes are laid out as in training, so policy and reference differ at step 0 by rounding alone. Several
    processes share the work.
    """
    units = list(zip(*sides.values(), strict=True))
    check_any(len(units))
    drawn = sorted({number for step in plan_of(units, optimization, seed) for number in step})
    sides = _of(sides, drawn)
    name = parallel.told(reference_id(lm, sides, optimization) if parallel.leads() else "")
    path = folder / f"{name}.safetensors"
    if parallel.told(path.exists()):
        note(f"reference: log-probabilities of this model and these rows are known already ({name})")
    else:
        found = _logprobs(lm, sides, optimization)
        if parallel.leads():
            folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            save_file(found, draft)
            with draft.open("rb") as stream:
                os.fsync(stream.fileno())
            draft.replace(path)
    parallel.wait()
    return Reference(load_file(path), name, drawn)


def _of(sides: Sides, numbers: Sequence[int]) -> Sides:
    return {side: [rows[number] for number in numbers] for side, rows in sides.items()}


def reference_id(lm: LanguageModel, sides: Sides, optimization: Optimization) -> str:
    """Hash of a model's weights and settings, of rows, and of what else the log-probabilities' bits depend on."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, value in [*lm.model.named_parameters(), *lm.model.named_buffers()]:
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        for part in stored(value):
            hasher.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    for side, rows in sides.items():
        for row in rows:
            hasher.update(f"{side} {len(row.ids)}\0".encode())
            hasher.update(np.asarray(row.ids, np.int64).tobytes())
            hasher.update(np.asarray(row.weights, bool).tobytes())
    settings = {**lm.model.config.to_dict(), "_name_or_path": ""}  # windows, epsilons, experts for a token
    scales = {name: module.scaling for name, module in lm.model.named_modules() if hasattr(module, "lora_A")}
    way = [lm.device, lm.dtype, lm.trees, optimization.micro(lm.device), optimization.compile, torch.__version__]
    return digest(hasher.hexdigest(), settings, scales, way, version(__name__))


def _logprobs(lm: LanguageModel, sides: Sides, optimization: Optimization) -> dict[str, Tensor]:
    """Of each side the log-probabilities of its learned tokens, row after row. Micro-batches that do not fit the memory
    are halved."""
    lm.model.eval()
    with torch.inference_mode(), fused_layers(lm.model, not optimization.compile):
        mine = halved(partial(_share, lm, sides), optimization.micro(lm.device), "reference")
    parts = {number: part for found in parallel.all_of(mine) for number, part in found.items()}
    return {side: torch.cat([parts[number][place] for number in sorted(parts)]) for place, side in enumerate(sides)}


def _share(lm: LanguageModel, sides: Sides, budget: int) -> dict[int, list[Tensor]]:
    """This process's part of the rows that stay together, by number: the log-probabilities of each side."""
    units = list(zip(*sides.values(), strict=True))
    mine: dict[int, list[Tensor]] = {}
    parts = parts_of(units, range(len(units)), budget, trees=lm.trees)
    groups = [group for _, group in parts[parallel.rank() :: parallel.size()]]
    with ticker("reference", sum(map(len, groups)), "rows") as tick:
        for group in groups:
            rows = [row for number in group for row in units[number]]
            batch = lay_out(rows, lm.device, trees=lm.trees)
            sizes = torch.bincount(batch.owners, minlength=len(rows)).tolist()
            values = token_logprobs(lm.model, batch).cpu().split(sizes)
            mine |= {number: list(values[place * len(sides) : (place + 1) * len(sides)])
                     for place, number in enumerate(group)}  # fmt: skip
            tick.advance(len(group))
    return mine


def refuse_other_start(lm: LanguageModel, sides: Sides, reference: Reference, optimization: Optimization, folder: Path
                       ) -> None:  # fmt: skip
    """Compare policy and reference before the first step of a run in `folder`, where they must be one model: then every
    margin is zero.

    Raises TrainingError when rounding does not explain how far they are apart.
    """
    if parallel.told((folder / CHECKPOINT).exists()):  # a resumed run has taken steps already
        return
    found = _logprobs(lm, _of(sides, reference.numbers[:COMPARED]), optimization)
    both = [(values, reference.sides[side][: len(values)]) for side, values in found.items()]
    apart = float((torch.cat([ours for ours, _ in both]) - torch.cat([theirs for _, theirs in both])).abs().mean())
    if not apart <= TOLERANCE[lm.dtype]:
        raise TrainingError(f"policy and reference are {apart:.3f} nats a token apart before the first step, and they"
                            " must be one model", hint="the reference must be computed with the model that training"
                            " starts from, its adapter included")  # fmt: skip
