"""Drop rows that hold the items of a suite.

The rule follows Tulu 3 (arXiv:2411.15124 section 3.2): an item is held by a row when enough of it is covered by
8-grams that the row has too. It differs in three ways. Items shorter than the n-gram are looked for whole.
N-grams
that many items of a task share are that benchmark's wording and do not count, or every row that asks for a sum would
hold every test of sums. Numbers are compared as they are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from burnish.config import Config
from burnish.data.filters.parts import Dropped, FilterResult, Row, messages_of, tokens
from burnish.log import progress
from burnish.types import Example

Gram = tuple[str, ...]
SHORTEST = 5
"""Items of fewer tokens are only looked for as a whole turn: "2 + 2" within a longer text is no copy."""


class Decontaminate(Config):
    """Keep rows that hold no item of the suites; what is kept is certified for training."""

    against: list[str] = Field(min_length=1)
    """Names of suites."""
    n: int = Field(default=8, ge=2)
    """Tokens in an n-gram; shorter items are compared whole."""
    coverage: float = Field(default=0.5, gt=0, le=1)
    """Share of an item's own n-grams that a row must have."""
    boilerplate: int = Field(default=5, ge=1)
    """An n-gram in more items of a task than this is the task's wording."""

    def keep(self, rows: Sequence[Row], against: Mapping[str, Sequence[Example]]) -> FilterResult:
        """Split the rows. `against` gives the items of each suite."""
        index = _Index({name: against[name] for name in self.against}, self)
        kept: list[Row] = []
        dropped: list[Dropped] = []
        hits: Counter[str] = Counter()
        for row in progress(rows, "decontamination", "rows"):
            found = index.held_by(row)
            if found is None:
                kept.append(row)
                continue
            item, score, covered = found
            hits[item.suite] += 1
            why = f"holds an item of suite '{item.suite}': \"{covered}\""
            dropped.append(Dropped(row, why, item.id, round(score, 4)))
        report: dict[str, Any] = {"items": len(index.items), "rows_holding_items": dict(hits)}
        return FilterResult(kept, dropped, report)


@dataclass(frozen=True)
class _Item:
    id: str
    suite: str
    grams: frozenset[Gram]
    whole: Gram


class _Index:
    """The n-grams of all items, by n-gram."""

    def __init__(self, suites: Mapping[str, Sequence[Example]], settings: Decontaminate) -> None:
        self._n, self._coverage = settings.n, settings.coverage
        self.items: list[_Item] = []
        for suite, items in suites.items():
            self.items += _informative(suite, items, settings)
        self._by_gram: dict[Gram, list[int]] = defaultdict(list)
        self._by_whole: dict[Gram, int] = {}
        for place, item in enumerate(self.items):
            for gram in item.grams:
                self._by_gram[gram].append(place)
            self._by_whole.setdefault(item.whole, place)
        self._lengths = sorted({len(gram) for gram in self._by_gram})

    def held_by(self, row: Row) -> tuple[_Item, float, str] | None:
        """The item that a row holds most of, its coverage, and a covered piece; None when it holds none."""
        covered: dict[int, list[Gram]] = defaultdict(list)
        texts = [tokens(text) for text in messages_of(row)]
        flat = [token for text in texts for token in text]
        for gram in set(_grams(flat, self._lengths)):
            for place in self._by_gram.get(gram, ()):
                covered[place].append(gram)
        scores = {place: len(grams) / len(self.items[place].grams) for place, grams in covered.items()}
        for whole in (*map(tuple, texts), tuple(flat), tuple(texts[0] if texts else ())):
            if whole in self._by_whole:
                place = self._by_whole[whole]
                scores[place] = 1.0
                covered.setdefault(place, [whole])
        best = max(scores, key=lambda place: (scores[place], -place), default=None)
        if best is None or scores[best] < self._coverage:
            return None
        return self.items[best], scores[best], " ".join(min(covered[best]))


def _informative(suite: str, items: Sequence[Example], settings: Decontaminate) -> Iterator[_Item]:
    """Items with the n-grams that are their own, wording of their task left out."""
    texts = [tokens(" ".join([*(message.content for message in item.messages), *item.choices])) for item in items]
    grams = [frozenset(_grams(text, [min(settings.n, len(text))])) if text else frozenset() for text in texts]
    shared: dict[str, Counter[Gram]] = defaultdict(Counter)
    for item, own in zip(items, grams, strict=True):
        shared[str(item.meta.get("task", ""))].update(own)
    for item, text, own in zip(items, texts, grams, strict=True):
        counts = shared[str(item.meta.get("task", ""))]
        rare = frozenset(gram for gram in own if counts[gram] <= settings.boilerplate)
        yield _Item(item.id, suite, rare if len(text) >= SHORTEST else frozenset(), tuple(text))


def _grams(text: Sequence[str], lengths: Sequence[int]) -> Iterator[Gram]:
    for length in lengths:
        for start in range(len(text) - length + 1):
            yield tuple(text[start : start + length])
