"""Which rows make which step, and how they are laid out for a forward pass.

The order is a function of (seed, epoch) alone, so a resumed run sees the same rows. A step's rows are cut into
micro-batches of alike lengths under a token budget; sums are divided by the whole step's count, so how they are cut
changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from burnish.models.chat import Rendered
from burnish.rng import seed_for


def row_order(rows: int, needed: int, seed: int) -> Iterator[int]:
    """`needed` row indices: every epoch a fresh shuffle of all rows."""
    made = epoch = 0
    while made < needed:
        shuffled = np.random.Generator(np.random.Philox(seed_for(seed, "epoch", epoch))).permutation(rows)
        for index in shuffled[: needed - made].tolist():
            yield index
            made += 1
        epoch += 1


def steps_of(rows: int, batch_size: int, steps: int, needed: int, seed: int) -> list[list[int]]:
    """Row indices of each optimiser step; the last one may be smaller."""
    order = list(row_order(rows, min(needed, steps * batch_size), seed))
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions of `lengths` grouped so that a group's padded size stays within the budget, the longest first."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    groups: list[list[int]] = []
    for place in order:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= budget:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right."""

    ids: Tensor  # (B, T)
    mask: Tensor  # (B, T) 1 where a token is real
    targets: Tensor  # (B, T) True where a token is learned
    weights: Tensor  # (N,) weight of each learned token, row-major
    owners: Tensor  # (N,) row of each learned token


def pad(rows: Sequence[Rendered], device: str) -> Batch:
    """Lay rows out for a forward pass."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    weights = torch.zeros(len(rows), width)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        mask[place, : len(row.ids)] = 1
        weights[place, : len(row.ids)] = torch.tensor(row.weights)
    targets = weights != 0
    owners = torch.arange(len(rows))[:, None].expand_as(targets)[targets]
    return Batch(ids.to(device), mask.to(device), targets.to(device), weights[targets].to(device), owners.to(device))
