"""How rows of tokens are laid out for one forward pass: as token trees, or padded.

In a tree, rows that begin alike share what they begin with: a pair's prompt, the turns that two transcripts have in
common. Each shared token is computed once and nothing is padded. A tree is a list of segments in depth-first order; a
token sees its own segment up to itself and the segments on the path from the root. Models whose layers cannot be
packed so (see `packing.why_not`) get one row a line, padded on the right. Both give the same log-probabilities.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from burnish.models.chat import Rendered

LEAST_SHARED = 16
"""Common tokens below this are not worth a segment of their own."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens start .. stop - 1 of a tree."""

    start: int
    stop: int
    depth: int
    """Position of its first token in its row."""
    parent: int
    """Number of the segment before it on the path; -1 at a root."""


@dataclass
class Tree:
    """Rows as a forest of segments, depth first."""

    ids: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)
    """Of each row, the numbers of its segments from the root."""

    def places(self, row: int) -> np.ndarray:
        """Where the tokens of a row stand in `ids`."""
        parts = [np.arange(self.segments[number].start, self.segments[number].stop) for number in self.paths[row]]
        return np.concatenate(parts) if parts else np.arange(0)

    def positions(self) -> np.ndarray:
        """Of every token, its position in its row."""
        parts = [np.arange(one.depth, one.depth + one.stop - one.start) for one in self.segments]
        return np.concatenate(parts) if parts else np.arange(0)

    def table(self) -> Tensor:
        """The segments (S, 4) as the attention function reads them: start, stop, depth, parent."""
        return torch.tensor([[one.start, one.stop, one.depth, one.parent] for one in self.segments], dtype=torch.long)


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning."""
    size = min(len(left), len(right))
    if left[:size] == right[:size]:
        return size
    low, high = 0, size - 1  # left[:low] is common, left[:high + 1] is not
    while low < high:
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def plant(rows: Sequence[tuple[int, ...]], least: int = LEAST_SHARED) -> Tree:
    """The rows as trees in which common beginnings of `least` tokens and more stand once."""
    tree = Tree()
    order = sorted(range(len(rows)), key=lambda row: rows[row])
    shared = [0] + [common(rows[a], rows[b]) for a, b in itertools.pairwise(order)]

    def grow(low: int, high: int, depth: int, path: list[int]) -> None:
        """Add rows order[low:high], whose first `depth` tokens stand on `path`."""
        alike = len(rows[order[low]]) if high - low == 1 else min(shared[low + 1 : high])
        if alike > depth and (high - low == 1 or alike - depth >= least):
            path = [*path, len(tree.segments)]
            start = len(tree.ids)
            tree.segments.append(Segment(start, start + alike - depth, depth, path[-2] if len(path) > 1 else -1))
            tree.ids += rows[order[low]][depth:alike]
            depth = alike
        if high - low == 1:
            tree.paths[order[low]] = path
            return
        # Where the least common beginning lies there is always a cut, so every part is smaller.
        cuts = [low, *(at for at in range(low + 1, high) if shared[at] < depth + least), high]
        for a, b in itertools.pairwise(cuts):
            grow(a, b, depth, path)

    if rows:
        grow(0, len(rows), 0, [])
    return tree


@dataclass(frozen=True)
class Batch:
    """Rows laid out for one forward pass. B lines of T tokens; a tree is one line.

    A token that several rows share is predicted once: `picks` hands its log-probability to each of them.
    """

    ids: Tensor  # (B, T)
    positions: Tensor  # (B, T)
    mask: Tensor | None  # (B, T) 1 where a token is real; None for trees
    segments: Tensor | None  # (S, 4) start, stop, depth, parent, on the CPU; None for padded rows
    sources: Tensor  # (N,) place, in the flattened lines, of the hidden state that predicts
    targets: Tensor  # (N,) the token it predicts
    picks: Tensor  # (M,) which of the N each learned token of each row is, rows in order
    places: Tensor  # (M,) where each of them stands in the flattened lines itself
    weights: Tensor  # (M,) how much it counts
    owners: Tensor  # (M,) its row

    @property
    def tokens(self) -> int:
        """Tokens computed, padding included."""
        return int(self.ids.numel())


def lay_out(rows: Sequence[Rendered], device: str, *, trees: bool) -> Batch:
    """Lay rows out as trees, or padded. Raises ValueError when the first token of a row is to be learned."""
    return _as_trees(rows, device) if trees else _padded(rows, device)


def _as_trees(rows: Sequence[Rendered], device: str) -> Batch:
    tree = plant([row.ids for row in rows])
    before = np.arange(len(tree.ids)) - 1
    for segment in tree.segments:
        before[segment.start] = tree.segments[segment.parent].stop - 1 if segment.parent >= 0 else -1
    places = [tree.places(number) for number in range(len(rows))]
    ids = np.array([tree.ids], dtype=np.int64)
    return _batch(ids, tree.positions()[None], before, places, rows, device, segments=tree.table())


def _padded(rows: Sequence[Rendered], device: str) -> Batch:
    width = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = row.ids
        mask[number, : len(row.ids)] = 1
    positions = np.tile(np.arange(width), (len(rows), 1))
    before = np.arange(ids.size) - 1
    before[::width] = -1
    places = [np.arange(len(row.ids)) + number * width for number, row in enumerate(rows)]
    return _batch(ids, positions, before, places, rows, device, mask=mask)


def _batch(
    ids: np.ndarray, positions: np.ndarray, before: np.ndarray, places: Sequence[np.ndarray], rows: Sequence[Rendered],
    device: str, *, mask: Tensor | None = None, segments: Tensor | None = None,
) -> Batch:  # fmt: skip
    learned, weights, owners = [], [], []
    for number, (row, where) in enumerate(zip(rows, places, strict=True)):
        weight = np.array(row.weights, dtype=np.float32)
        counts = weight.nonzero()[0]
        learned.append(where[counts])
        weights.append(weight[counts])
        owners.append(np.full(len(counts), number))
    unique, picks = np.unique(np.concatenate(learned), return_inverse=True)
    if len(unique) and before[unique].min() < 0:
        raise ValueError("the first token of a row has nothing before it to be predicted from")

    def on(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    return Batch(
        ids=on(ids), positions=on(positions), mask=None if mask is None else mask.to(device), segments=segments,
        sources=on(before[unique]), targets=on(ids.reshape(-1)[unique]), picks=on(picks), places=on(unique[picks]),
        weights=on(np.concatenate(weights)), owners=on(np.concatenate(owners)),
    )  # fmt: skip
