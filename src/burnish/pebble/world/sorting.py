"""Putting words and numbers in order, and counting how often something occurs."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from burnish.pebble.world.base import Chat, Skill, Turn, final
from burnish.pebble.world.words import NOUNS


@dataclass(frozen=True, slots=True)
class Listing:
    """A list and what is asked of it: `words` (alphabetical), `up` or `down` (numbers), or `count` of `key`."""

    kind: str
    items: tuple[str, ...]
    key: str = ""

    @property
    def identity(self) -> object:
        """The order in which the items were given makes no new problem, nor does the direction of sorting."""
        return self.kind == "count", tuple(sorted(self.items)), self.key

    @property
    def ordered(self) -> list[str]:
        if self.kind == "words":
            return sorted(self.items)
        return sorted(self.items, key=int, reverse=self.kind == "down")

    @property
    def answer(self) -> str:
        return str(self.items.count(self.key)) if self.kind == "count" else ", ".join(self.ordered)


def draw(rng: Random) -> Listing:
    kind = rng.choice(("words", "words", "up", "down", "count"))
    if kind == "count":
        key, *others = rng.sample(NOUNS, 3)
        items = [key] * rng.randrange(1, 6) + [rng.choice(others) for _ in range(rng.randrange(2, 5))]
        rng.shuffle(items)
        return Listing(kind, tuple(items), key)
    size = rng.randrange(3, 6)
    if kind == "words":
        return Listing(kind, tuple(rng.sample(NOUNS, size)))
    return Listing(kind, tuple(map(str, rng.sample(range(10, 100), size))))


def working(problem: Listing) -> list[str]:
    """For counting, the list again with a running count; sorting is done in the head."""
    if problem.kind != "count":
        return []
    seen, parts = 0, []
    for item in problem.items:
        seen += item == problem.key
        parts.append(f"{item} {seen}")
    return [", ".join(parts)]


ASKS = {
    "words": ("Please sort these words from A to Z: {items}", "Which order do these have in a dictionary? {items}"),
    "up": ("Please sort these numbers from small to large: {items}", "What is the rising order of {items}?"),
    "down": ("Please sort these numbers from large to small: {items}", "What is the falling order of {items}?"),
    "count": ("How many times does {key} occur here? {items}", "Please count the word {key} in: {items}"),
}


def chat(problem: Listing, rng: Random) -> Chat:
    ask = rng.choice(ASKS[problem.kind]).format(items=", ".join(problem.items), key=problem.key)
    grader: dict[str, dict[str, Any]] = {"numeric": {}} if problem.kind == "count" else {"sequence": {"ordered": True}}
    return Chat((Turn(ask, final(working(problem), problem.answer)),), problem.answer, grader)


TITLES = {
    "words": ("Alphabet list: {items}\nA to Z: {answer}", "Words {items}\nIn order {answer}"),
    "up": ("Numbers {items}\nRising: {answer}", "Row: {items}\nSmallest first: {answer}"),
    "down": ("Numbers {items}\nFalling: {answer}", "Row: {items}\nLargest first: {answer}"),
    "count": (
        "Tally of {key}: {items}\n{steps}\nTotal {answer}",
        "Shelf: {items}\nCounting {key}\n{steps}\nFound {answer}",
    ),
}


def document(problems: list[Listing], rng: Random) -> str:
    parts = []
    for problem in problems:
        text = rng.choice(TITLES[problem.kind])
        parts.append(
            text.format(
                items=", ".join(problem.items),
                key=problem.key,
                steps="\n".join(working(problem)),
                answer=problem.answer,
            )
        )
    return "\n".join(parts)


SKILL = Skill("sorting", "sort words and numbers, count occurrences", 1.6, draw, chat, document, (2, 5))
