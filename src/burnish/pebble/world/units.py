"""Conversion of lengths, weights, volumes and times, from large to small and back."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from burnish.pebble.world.base import Chat, Skill, Turn, final

UNITS = (
    ("kilometres", "metres", 1000),
    ("metres", "centimetres", 100),
    ("centimetres", "millimetres", 10),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
    ("feet", "inches", 12),
    ("yards", "feet", 3),
)
"""(larger unit, smaller unit, how many of the smaller make one of the larger)."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """`whole` large units and `rest` small ones. `back`: from the total in small units to the two numbers."""

    unit: int
    whole: int
    rest: int
    back: bool

    @property
    def identity(self) -> object:
        """There and back are one problem: the sums are the same."""
        return self.unit, self.whole, self.rest

    @property
    def large(self) -> str:
        return UNITS[self.unit][0]

    @property
    def small(self) -> str:
        return UNITS[self.unit][1]

    @property
    def factor(self) -> int:
        return UNITS[self.unit][2]

    @property
    def total(self) -> int:
        return self.whole * self.factor + self.rest


def draw(rng: Random) -> Conversion:
    unit = rng.randrange(len(UNITS))
    factor = UNITS[unit][2]
    step = max(1, factor // 100) * (5 if factor >= 100 else 1)
    rest = rng.randrange(1, factor // step) * step if factor // step > 1 else 0
    return Conversion(unit, rng.randrange(2, 13), rest, rng.random() < 0.35)


def working(problem: Conversion) -> list[str]:
    rule = f"1 {problem.large[:-1] if problem.large != 'feet' else 'foot'} = {problem.factor} {problem.small}"
    product = problem.whole * problem.factor
    if problem.back:
        return [rule, f"{problem.whole}*{problem.factor}={product}", f"{problem.total}-{product}={problem.rest}"]
    return [rule, f"{problem.whole}*{problem.factor}={product}", f"{product}+{problem.rest}={problem.total}"]


def answer(problem: Conversion) -> str:
    if problem.back:
        return f"{problem.whole} {problem.large}, {problem.rest} {problem.small}"
    return f"{problem.total} {problem.small}"


ASKS = (
    "How many {small} are {whole} {large} and {rest} {small}?",
    "Please convert {whole} {large} {rest} {small} to {small}.",
    "I have {whole} {large} and {rest} {small}. What is that in {small}?",
)
ASKS_BACK = (
    "How many {large} and {small} are {total} {small}?",
    "Please convert {total} {small} to {large} and {small}.",
    "I have {total} {small}. What is that in {large} and {small}?",
)


def _fill(text: str, problem: Conversion) -> str:
    return text.format(
        whole=problem.whole, rest=problem.rest, total=problem.total, large=problem.large, small=problem.small
    )


def chat(problem: Conversion, rng: Random) -> Chat:
    ask = _fill(rng.choice(ASKS_BACK if problem.back else ASKS), problem)
    grader: dict[str, dict[str, object]] = {"exact": {"last_line": True}} if problem.back else {"numeric": {}}
    gold = answer(problem) if problem.back else str(problem.total)
    return Chat((Turn(ask, final(working(problem), answer(problem))),), gold, grader)


TITLES = ("{whole} {large} and {rest} {small}, all in {small}:", "Given: {whole} {large} {rest} {small}. In {small}:")
TITLES_BACK = ("{total} {small} as {large} and {small}:", "Given: {total} {small}. In {large} and {small}:")
CLOSES = ("So {whole} {large} and {rest} {small} make {total} {small}.", "Result: {total} {small}.")
CLOSES_BACK = (
    "So {total} {small} make {whole} {large}, {rest} {small}.",
    "Result: {whole} {large}, {rest} {small}.",
)


def document(problems: list[Conversion], rng: Random) -> str:
    parts = []
    for problem in problems:
        title = _fill(rng.choice(TITLES_BACK if problem.back else TITLES), problem)
        close = _fill(rng.choice(CLOSES_BACK if problem.back else CLOSES), problem)
        parts.append("\n".join([title, *working(problem), close]))
    return "\n".join(parts)


SKILL = Skill("units", "convert lengths, weights, volumes and times", 1.2, draw, chat, document, (2, 4))
