"""Sums, differences and products of 2 to 4 digit numbers, worked column by column from the ones."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from burnish.pebble.world.base import Chat, Skill, Turn, final

MARKS = {"add": "+", "subtract": "-", "multiply": "*"}


@dataclass(frozen=True, slots=True)
class Sum:
    """Two numbers and what is done with them; the larger one stands first, so a+b and b+a are one problem."""

    kind: str
    left: int
    right: int

    @property
    def text(self) -> str:
        return f"{self.left}{MARKS[self.kind]}{self.right}"

    @property
    def answer(self) -> int:
        if self.kind == "add":
            return self.left + self.right
        return self.left - self.right if self.kind == "subtract" else self.left * self.right


def draw(rng: Random) -> Sum:
    kind = rng.choice(("add", "add", "subtract", "multiply"))
    if kind == "multiply":
        digits = rng.choice((2, 2, 3))
        return Sum(kind, rng.randrange(10 ** (digits - 1), 10**digits), rng.randrange(3, 10))
    digits = rng.choice((2, 3, 3, 4))
    left, right = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
    return Sum(kind, max(left, right), min(left, right))


def working(problem: Sum) -> list[str]:
    """One line per column, then the whole: the steps that documents and answers share."""
    steps = {"add": _add, "subtract": _subtract, "multiply": _multiply}[problem.kind]
    return [*steps(problem.left, problem.right), f"{problem.text}={problem.answer}"]


def _columns(left: int, right: int) -> list[tuple[int, int]]:
    width = len(str(left))
    return [(left // 10**place % 10, right // 10**place % 10) for place in range(width)]


def _add(left: int, right: int) -> list[str]:
    lines, carry = [], 0
    for top, bottom in _columns(left, right):
        total = top + bottom + carry
        terms = f"{top}+{bottom}" + ("+1" if carry else "")
        carry = total // 10
        lines.append(f"{terms}={total}" + (f", write {total % 10} carry 1" if carry else ""))
    return lines


def _subtract(left: int, right: int) -> list[str]:
    lines, borrowed = [], 0
    for top, bottom in _columns(left, right):
        borrow = int(top - borrowed < bottom)
        top += 10 * borrow
        terms = f"{top}" + ("-1" if borrowed else "") + f"-{bottom}"
        lines.append(f"{terms}={top - borrowed - bottom}" + (", borrow 1" if borrow else ""))
        borrowed = borrow
    return lines


def _multiply(left: int, right: int) -> list[str]:
    lines, carry = [], 0
    for top, _ in _columns(left, 0):
        total = top * right + carry
        terms = f"{top}*{right}" + (f"+{carry}" if carry else "")
        carry = total // 10
        lines.append(f"{terms}={total}" + (f", write {total % 10} carry {carry}" if carry else ""))
    return lines


ASKS = {
    "add": ("What is {a} plus {b}?", "Please add {a} and {b}.", "How much is {a}+{b}? Show the steps."),
    "subtract": ("What is {a} minus {b}?", "Please take {b} away from {a}.", "How much is {a}-{b}? Show the steps."),
    "multiply": ("What is {a} times {b}?", "Please multiply {a} by {b}.", "How much is {a}*{b}? Show the steps."),
}


def chat(problem: Sum, rng: Random) -> Chat:
    ask = rng.choice(ASKS[problem.kind]).format(a=problem.left, b=problem.right)
    return Chat((Turn(ask, final(working(problem), problem.answer)),), str(problem.answer), {"numeric": {}})


TITLES = {
    "add": ("Column sum of {a} and {b}", "Worked example: {a}+{b}", "Adding {b} to {a}, ones first", "Sum {a}+{b}"),
    "subtract": (
        "Difference of {a} and {b}",
        "Worked example: {a}-{b}",
        "{b} less than {a}, ones first",
        "Take {a}-{b}",
    ),
    "multiply": ("Product of {a} and {b}", "Worked example: {a}*{b}", "{b} lots of {a}, ones first", "Times {a}*{b}"),
}
HEADS = ("Exercise book", "Sums on paper", "Chapter {n}. Columns", "Number work", "Page {n}")


def document(problems: list[Sum], rng: Random) -> str:
    parts = [rng.choice(HEADS).format(n=rng.randrange(1, 40))] if rng.random() < 0.3 else []
    for problem in problems:
        title = rng.choice(TITLES[problem.kind]).format(a=problem.left, b=problem.right)
        parts.append("\n".join([title + ".", *working(problem)]))
    if rng.random() < 0.3:
        parts.append(" ".join(_fact(rng) for _ in range(rng.randrange(3, 9))))
    return "\n".join(parts)


def _fact(rng: Random) -> str:
    """A small sum done in the head: up to 20, or from the times tables."""
    left, right = rng.randrange(2, 10), rng.randrange(2, 10)
    return rng.choice(
        (f"{left}+{right}={left + right}", f"{left}*{right}={left * right}", f"{left + right}-{left}={right}")
    )


SKILL = Skill("arithmetic", "add, subtract and multiply with written steps", 2.2, draw, chat, document, (1, 3))
