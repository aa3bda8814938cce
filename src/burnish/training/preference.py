"""Preference alignment against a reference whose log-probabilities are computed once and kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish.errors import TrainingError
from burnish.log import note, ticker
from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import token_logprobs
from burnish.objectives.parts import LossOutput, PairLogprobs
from burnish.training.batch import micro_batches
from burnish.training.optim import Optimization
from burnish.training.state import TrainResult
from burnish.training.step import Micro, check_any, row_sums, train

if TYPE_CHECKING:
    from burnish.objectives.parts import PairObjective

REFERENCE = "reference.safetensors"
MARGIN_TOLERANCE = {"float32": (1e-3, 1e-7), "bfloat16": (0.5, 1e-3), "float16": (0.1, 1e-4)}
"""Largest mean margin (nats) that rounding explains before the first step, where policy and reference are one model:
a number, and what is added for each nat of an answer's log-probability."""
FALLING = -1.0
"""Mean log-ratio of chosen answers (nats) below which their falling likelihood is said."""


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Two answers behind the same prompt, as tokens."""

    chosen: Rendered
    rejected: Rendered
    id: str = ""


@dataclass(frozen=True)
class Reference:
    """Log-probabilities of every learned token under the reference, flat, with where each pair's begin."""

    chosen: Tensor  # (sum of learned tokens of the chosen answers,)
    rejected: Tensor

    def sums(self, pairs: Sequence[RenderedPair]) -> PairLogprobs:
        """Weighted sums of each pair's log-probabilities (P,)."""
        sums, tokens = [], []
        for values, rows in ((self.chosen, [p.chosen for p in pairs]), (self.rejected, [p.rejected for p in pairs])):
            weights = [torch.tensor([weight for weight in row.weights if weight]) for row in rows]
            parts = values.split([len(weight) for weight in weights])
            sums.append(
                torch.stack([(part.double() * weight).sum() for part, weight in zip(parts, weights, strict=True)])
            )
            tokens.append(torch.tensor([float(len(weight)) for weight in weights]))
        return PairLogprobs(*sums, *tokens)


def reference_logprobs(lm: LanguageModel, pairs: Sequence[RenderedPair], folder: Path, optimization: Optimization
                       ) -> Reference:  # fmt: skip
    """The starting model's log-probability of every answer token, computed once and kept in `folder`.

    The passes are laid out as in training, so policy and reference differ at step 0 by rounding alone.
    """
    check_any(len(pairs))
    path = folder / REFERENCE
    if not path.exists():
        lm.model.eval()
        with torch.inference_mode():
            found = _logprobs(lm, pairs, optimization.micro(lm.device))
        draft = path.with_name(f".{path.name}")
        save_file(found, draft)
        os.replace(draft, path)  # noqa: PTH105
    return Reference(**load_file(path))


def _logprobs(lm: LanguageModel, pairs: Sequence[RenderedPair], budget: int) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {side: [torch.empty(0)] * len(pairs) for side in ("chosen", "rejected")}
    with ticker("reference", len(pairs), "pairs") as tick:
        for group in micro_batches(_units(pairs), budget, trees=lm.trees):
            rows = [row for number in group for row in (pairs[number].chosen, pairs[number].rejected)]
            batch = lay_out(rows, lm.device, trees=lm.trees)
            sizes = torch.bincount(batch.owners, minlength=len(rows)).tolist()
            values = token_logprobs(lm.model, batch).cpu().split(sizes)
            for number, chosen, rejected in zip(group, values[::2], values[1::2], strict=True):
                parts["chosen"][number], parts["rejected"][number] = chosen, rejected
            tick.advance(len(group))
    return {side: torch.cat(values) for side, values in parts.items()}


def _units(pairs: Sequence[RenderedPair]) -> list[tuple[tuple[int, ...], ...]]:
    return [(pair.chosen.ids, pair.rejected.ids) for pair in pairs]


def discounted(pairs: Sequence[RenderedPair], tail: float) -> Sequence[RenderedPair]:
    """The pairs with weight `tail` on the tokens by which the longer answer exceeds the shorter (arXiv:2409.06411)."""
    if tail == 1:
        return pairs

    def cut(row: Rendered, kept: int) -> Rendered:
        places = [place for place, weight in enumerate(row.weights) if weight][kept:]
        beyond = set(places)
        weights = tuple(weight * tail if place in beyond else weight for place, weight in enumerate(row.weights))
        return replace(row, weights=weights)

    found = []
    for pair in pairs:
        kept = min(sum(map(bool, row.weights)) for row in (pair.chosen, pair.rejected))
        found.append(replace(pair, chosen=cut(pair.chosen, kept), rejected=cut(pair.rejected, kept)))
    return found


def train_preference(
    lm: LanguageModel, pairs: Sequence[RenderedPair], reference: Reference | None, objective: PairObjective,
    optimization: Optimization, *, seed: int, folder: Path, checkpoint_every_s: float = 60.0,
) -> TrainResult:  # fmt: skip
    """Train on pairs. The loss of a step is the mean over its pairs.

    Dropout is off, as it is for the reference: noise in one of the two would be noise in every margin.
    Raises TrainingError for an answer longer than the context, and when the margin before the first step is not zero:
    then the reference is not the model that training starts from.
    """
    lengths = [max(len(pair.chosen.ids), len(pair.rejected.ids)) for pair in pairs]
    pairs = discounted(pairs, objective.tail)
    nothing = torch.zeros(len(pairs))
    known = reference.sums(pairs) if reference else PairLogprobs(nothing, nothing, nothing, nothing)

    def loss(numbers: list[int]) -> LossOutput:
        rows = [pairs[number].chosen for number in numbers] + [pairs[number].rejected for number in numbers]
        batch = lay_out(rows, lm.device, trees=lm.trees)
        logprobs = token_logprobs(lm.model, batch) * batch.weights
        both = row_sums(logprobs, batch.owners, len(rows))
        tokens = row_sums(torch.ones_like(batch.weights), batch.owners, len(rows))
        policy = PairLogprobs(*both.split(len(numbers)), *tokens.split(len(numbers)))
        base = (known.chosen, known.rejected, known.chosen_tokens, known.rejected_tokens)
        return objective.loss(policy, PairLogprobs(*(values[numbers].to(policy.chosen) for values in base)))

    def micros(numbers: list[int], budget: int) -> tuple[float, list[Micro]]:
        units = _units([pairs[number] for number in numbers])
        budget = sys.maxsize if objective.whole_step else budget
        groups = micro_batches(units, budget, trees=lm.trees)
        parts = [[numbers[place] for place in group] for group in groups]
        sizes = [sum(len(pairs[n].chosen.ids) + len(pairs[n].rejected.ids) for n in part) for part in parts]
        return float(len(numbers)), [(size, partial(loss, part)) for size, part in zip(sizes, parts, strict=True)]

    said = False
    least, share = MARGIN_TOLERANCE[lm.dtype]
    tolerance = least + share * float((known.chosen.abs() + known.rejected.abs()).mean())

    def after(step: int, row: dict[str, float]) -> None:
        nonlocal said
        if reference and step == 0 and abs(row["margin"]) > tolerance:
            raise TrainingError(
                f"the mean margin before the first step is {row['margin']:.3f} nats, and it must be zero",
                hint="the reference is not the model that training starts from; remove the step's work folder",
            )
        if reference and not said and row["chosen_gain"] < FALLING:
            said = True
            note(f"preference: at step {step} chosen answers are {-row['chosen_gain']:.1f} nats less likely than at the"
                 " start; the loss falls because rejected ones fall faster")  # fmt: skip

    return train(lm, lengths, micros, optimization, label="preference", seed=seed, folder=folder,
                 checkpoint_every_s=checkpoint_every_s, after=after, dropout=False)  # fmt: skip
