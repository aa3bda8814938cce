"""Drop rows that are nearly the same as an earlier one.

Candidates come from MinHash signatures in bands (A. Broder, On the resemblance and containment of documents, 1997);
each is then compared by the Jaccard similarity of the shingles themselves. A row goes only when a row that is KEPT is
that similar to it: similarity is not passed along chains, and of two twins one stays.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from burnish.config import Config
from burnish.data.filters.parts import Dropped, FilterResult, Row, normalized
from burnish.log import progress
from burnish.types import Example

PERMUTATIONS = 128
RECALL = 0.99
"""Bands are as long as they can be while a pair at the threshold still meets in one with this probability."""

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


class MinHash(Config):
    """Keep rows whose shingles overlap less than `threshold` with every kept row before them."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity from which two rows count as the same."""
    words: int = Field(default=3, ge=1)
    """Words in a shingle. Rows of fewer than four times as many words are cut into runs of five characters instead."""

    def keep(self, rows: Sequence[Row], against: Mapping[str, Sequence[Example]]) -> FilterResult:
        """Split the rows into kept ones and near repeats."""
        length = _band_length(self.threshold)
        keys = _permutations()
        buckets: dict[tuple[int, bytes], list[int]] = {}
        shingles: list[frozenset[int]] = []
        kept: list[Row] = []
        dropped: list[Dropped] = []
        for row in progress(rows, "near duplicates", "rows"):
            mine = self._shingles(normalized(row))
            bands = _bands(mine, keys, length)
            candidates = sorted({place for band in bands for place in buckets.get(band, ())})
            match = self._match(mine, candidates, shingles)
            if match is not None:
                place, score = match
                dropped.append(Dropped(row, "nearly the same as an earlier row", kept[place].id, round(score, 4)))
                continue
            for band in bands:
                buckets.setdefault(band, []).append(len(kept))
            shingles.append(mine)
            kept.append(row)
        return FilterResult(kept, dropped)

    def _shingles(self, text: str) -> frozenset[int]:
        words = text.split()
        if len(words) >= 4 * self.words:
            pieces = (" ".join(words[at : at + self.words]) for at in range(len(words) - self.words + 1))
        else:
            padded = f" {' '.join(words)} "
            pieces = (padded[at : at + 5] for at in range(max(1, len(padded) - 4)))
        return frozenset(zlib.crc32(piece.encode()) for piece in pieces)

    def _match(self, mine: frozenset[int], candidates: Sequence[int], shingles: Sequence[frozenset[int]]
               ) -> tuple[int, float] | None:  # fmt: skip
        for place in candidates:
            other = shingles[place]
            shared = len(mine & other)
            score = shared / (len(mine) + len(other) - shared)
            if score >= self.threshold:
                return place, score
        return None


def _band_length(threshold: float) -> int:
    """The longest band r for which 1 - (1 - t^r)^(128/r) is at least the wanted recall."""
    lengths = [r for r in range(1, 33) if 1 - (1 - threshold**r) ** (PERMUTATIONS // r) >= RECALL]
    return max(lengths, default=1)


def _permutations() -> tuple[Numbers, Numbers]:
    """Multipliers (odd) and offsets of the hash functions h -> (a h + b mod 2^64) >> 32, always the same."""
    generator = np.random.Generator(np.random.Philox(1))
    numbers = generator.integers(0, 2**63, size=(2, PERMUTATIONS), dtype=np.uint64)
    return numbers[0] * np.uint64(2) + np.uint64(1), numbers[1]


def _bands(shingles: frozenset[int], keys: tuple[Numbers, Numbers], length: int) -> list[tuple[int, bytes]]:
    hashes = np.fromiter(shingles, dtype=np.uint64, count=len(shingles))
    signature = ((hashes[:, None] * keys[0] + keys[1]) >> np.uint64(32)).min(axis=0)
    return [(band, signature[band * length : (band + 1) * length].tobytes())
            for band in range(PERMUTATIONS // length)]  # fmt: skip
