"""Drop rows that hold the items of a suite.

The rule follows Tulu 3 (arXiv:2411.15124 section 3.2): an item is held by a row when a share of its tokens is covered
by 8-grams that the row has too. It differs in four ways. Items shorter than the n-gram are looked for whole. Solved
examples that a prompt shows before its question are no part of the item. Tokens within a 3-gram that many items of a
task share are that benchmark's wording and do not count, or every row that asks for a sum would hold every test of
sums. Numbers are compared as they are.
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
WORDING = 3
"""Tokens in the n-grams by which a task's wording is known."""
SHORTEST = 5
"""Items of fewer tokens are only looked for as a whole turn: "2 + 2" within a longer text is no copy."""


class Decontaminate(Config):
    """Keep rows that hold no item of the suites; what is kept is certified for training."""

    against: list[str] = Field(min_length=1)
    """Names of suites."""
    n: int = Field(default=8, ge=2)
    """Tokens in an n-gram; shorter items are compared whole."""
    coverage: float = Field(default=0.5, gt=0, le=1)
    """Share of an item's own tokens that a row must cover."""
    boilerplate: int = Field(default=3, ge=1)
    """A 3-gram in more items of a task than this is the task's wording, and its tokens are not the item's own."""

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
    tokens: Gram
    own: frozenset[int]
    """Positions of the tokens that are not the task's wording."""


class _Index:
    """The n-grams of all items, with where they stand in which."""

    def __init__(self, suites: Mapping[str, Sequence[Example]], settings: Decontaminate) -> None:
        self._coverage = settings.coverage
        self.items = [item for suite, items in suites.items() for item in _items(suite, items, settings.boilerplate)]
        self._places: dict[Gram, list[tuple[int, int]]] = defaultdict(list)  # n-gram -> (item, position)
        self._wholes: dict[Gram, int] = {}
        for number, item in enumerate(self.items):
            self._wholes.setdefault(item.tokens, number)
            if len(item.tokens) >= SHORTEST:
                for start, gram in enumerate(_grams(item.tokens, min(settings.n, len(item.tokens)))):
                    self._places[gram].append((number, start))
        self._lengths = sorted({len(gram) for gram in self._places})

    def held_by(self, row: Row) -> tuple[_Item, float, str] | None:
        """The item that a row holds most of, its coverage, and the covered tokens; None when it holds none."""
        texts = [tokens(text) for text in messages_of(row)]
        flat = [token for text in texts for token in text]
        covered: dict[int, set[int]] = defaultdict(set)
        for gram in {gram for length in self._lengths for gram in _grams(flat, length)}:
            for number, start in self._places.get(gram, ()):
                covered[number].update(range(start, start + len(gram)))
        for whole in (*map(tuple, texts), tuple(flat)):
            if whole in self._wholes:
                covered[self._wholes[whole]].update(range(len(whole)))
        scores = {number: self._score(number, places) for number, places in covered.items()}
        best = max(scores, key=lambda number: (scores[number], -number), default=None)
        if best is None or scores[best] < self._coverage:
            return None
        item = self.items[best]
        return item, scores[best], " ".join(item.tokens[place] for place in sorted(covered[best]))

    def _score(self, number: int, covered: set[int]) -> float:
        item = self.items[number]
        if not item.own:  # nothing but wording: only the whole item counts
            return float(len(covered) == len(item.tokens))
        return len(covered & item.own) / len(item.own)


def _items(suite: str, items: Sequence[Example], boilerplate: int) -> Iterator[_Item]:
    """Items as tokens, with which of them are their own."""
    texts = [tokens(_own_text(item)) for item in items]
    shared: dict[str, Counter[Gram]] = defaultdict(Counter)
    for item, text in zip(items, texts, strict=True):
        shared[_task(item)].update(set(_grams(text, WORDING)))
    for item, text in zip(items, texts, strict=True):
        wording = {
            place
            for start, gram in enumerate(_grams(text, WORDING))
            if shared[_task(item)][gram] > boilerplate
            for place in range(start, start + WORDING)
        }
        yield _Item(item.id, suite, tuple(text), frozenset(range(len(text))) - wording)


def _own_text(item: Example) -> str:
    """An item without the solved examples that its prompt may show before it: those are no secret."""
    asked = [str(item.meta["question"])] if "question" in item.meta else [turn.content for turn in item.messages]
    return " ".join([*asked, *item.choices])


def _task(item: Example) -> str:
    return str(item.meta.get("task", ""))


def _grams(text: Sequence[str], length: int) -> Iterator[Gram]:
    for start in range(len(text) - length + 1):
        yield tuple(text[start : start + length])
