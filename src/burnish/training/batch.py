"""Which rows make which step, and which of them go through the model together.

The order is a function of (seed, epoch) alone, so a resumed run sees the same rows. A step's rows are cut into
micro-batches under a token budget; sums are divided by the whole step's count, so how they are cut changes nothing but
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from burnish.models.chat import Rendered
from burnish.models.layout import LEAST_SHARED, common
from burnish.rng import seed_for

if TYPE_CHECKING:
    from burnish.training.optim import Optimization

Unit = Sequence[tuple[int, ...]]
"""The token ids of rows that must stay together: one conversation, or a pair's two answers."""


def plan_of(units: Sequence[Sequence[Rendered]], optimization: Optimization, seed: int) -> list[list[int]]:
    """Which units, rows that stay together, each optimiser step is made of, by their numbers; the last step may be
    smaller."""
    groups = by_prompt([rows[0] for rows in units]) if optimization.together else [[row] for row in range(len(units))]
    order = list(row_order(groups, optimization.drawn(len(units)), seed, optimization.shuffle))
    return [order[at : at + optimization.batch_size] for at in range(0, len(order), optimization.batch_size)]


def row_order(groups: Sequence[Sequence[int]], needed: int, seed: int, shuffle: bool = True) -> Iterator[int]:
    """`needed` row indices: every epoch a fresh shuffle of all groups of rows, or all of them in their order. A group's
    rows follow each other wherever they are drawn."""
    made = epoch = 0
    while made < needed:
        generator = np.random.Generator(np.random.Philox(seed_for(seed, "epoch", epoch)))
        order = generator.permutation(len(groups)) if shuffle else np.arange(len(groups))
        for index in islice((row for group in order.tolist() for row in groups[group]), needed - made):
            yield index
            made += 1
        epoch += 1


def by_prompt(rows: Sequence[Rendered]) -> list[list[int]]:
    """The numbers of rows in groups: those whose prompts, what stands before the first learned turn, are the same or
    begin with another of the group."""
    prompts = [row.ids[: row.turns[0].start] for row in rows]
    groups: list[list[int]] = []
    for number in sorted(range(len(rows)), key=prompts.__getitem__):
        head = prompts[groups[-1][0]] if groups else None
        if head is not None and prompts[number][: len(head)] == head:
            groups[-1].append(number)
        else:
            groups.append([number])
    return sorted(groups)


def parts_of(units: Sequence[Sequence[Rendered]], numbers: Sequence[int], budget: int, *, trees: bool
             ) -> list[tuple[int, list[int]]]:  # fmt: skip
    """The numbers of a step's units in micro-batches, each with the tokens of its rows (see `micro_batches`)."""
    groups = micro_batches([[row.ids for row in units[number]] for number in numbers], budget, trees=trees)
    parts = [[numbers[place] for place in group] for group in groups]
    return [(sum(len(row.ids) for number in part for row in units[number]), part) for part in parts]


def micro_batches(units: Sequence[Unit], budget: int, *, trees: bool) -> list[list[int]]:
    """Numbers of the units that go through the model together, within a budget of computed tokens.

    As trees, units that begin alike stand beside each other; padded, units that are alike in length, longest first. A
    unit that exceeds the budget alone is a micro-batch of its own.
    """
    return _by_beginning(units, budget) if trees else _by_length(units, budget)


def _by_beginning(units: Sequence[Unit], budget: int) -> list[list[int]]:
    order = sorted(range(len(units)), key=lambda number: units[number][0])
    groups: list[list[int]] = []
    filled = budget
    before: tuple[int, ...] = ()
    for number in order:
        rows = units[number]
        within = sum(map(_new, rows[1:], rows))
        if filled + _new(rows[0], before) + within > budget:
            groups.append([])
            filled, before = 0, ()
        filled += _new(rows[0], before) + within
        before = rows[0]
        groups[-1].append(number)
    return groups


def _new(row: tuple[int, ...], before: tuple[int, ...]) -> int:
    """Tokens of a row that are not shared with the one before it."""
    shared = common(row, before)
    return len(row) - (shared if shared >= LEAST_SHARED else 0)


def _by_length(units: Sequence[Unit], budget: int) -> list[list[int]]:
    widths = [max(map(len, rows)) for rows in units]
    order = sorted(range(len(units)), key=lambda number: (-widths[number], number))
    groups: list[list[int]] = []
    filled = width = 0
    for number in order:
        if not groups or (filled + len(units[number])) * width > budget:
            groups.append([])
            filled, width = 0, widths[number]
        filled += len(units[number])
        groups[-1].append(number)
    return groups
