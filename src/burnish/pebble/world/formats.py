"""The same content in another shape: lists, JSON, upper case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from burnish.pebble.world.base import Chat, Skill, Turn, joined
from burnish.pebble.world.words import ANIMALS, COLOURS, FOODS, FRUITS, JOBS, NAMES, THINGS, TOWNS

KINDS = ("numbered", "bulleted", "upper", "json", "json", "comma")


@dataclass(frozen=True, slots=True)
class Shaping:
    """`kind` of output and the items it holds; for JSON the items are the values of name, age, job, town."""

    kind: str
    items: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        name, age, *rest = self.items
        return {"name": name, "age": int(age), **dict(zip(("job", "town"), rest, strict=False))}

    @property
    def answer(self) -> str:
        return {
            "numbered": "\n".join(f"{place}. {item}" for place, item in enumerate(self.items, 1)),
            "bulleted": "\n".join(f"- {item}" for item in self.items),
            "upper": " ".join(self.items).upper(),
            "json": json.dumps(self.record) if self.kind == "json" else "",
            "comma": ", ".join(self.items),
        }[self.kind]


def draw(rng: Random) -> Shaping:
    kind = rng.choice(KINDS)
    if kind == "json":
        items = [rng.choice(NAMES), str(rng.randrange(18, 80)), rng.choice(JOBS), rng.choice(TOWNS)]
        return Shaping(kind, tuple(items[: rng.choice((3, 4))]))
    if kind == "upper":
        words = [rng.choice(("the", "a", "my", "one")), rng.choice(COLOURS), rng.choice((*ANIMALS, *THINGS))]
        return Shaping(kind, (*words, *(("and", "the", rng.choice((*ANIMALS, *THINGS))) if rng.random() < 0.5 else ())))
    pool = rng.choice((FRUITS, FOODS, THINGS, ANIMALS))
    return Shaping(kind, tuple(rng.sample(pool, rng.randrange(3, 6))))


def source(problem: Shaping, rng: Random) -> str:
    """The content before it is shaped."""
    if problem.kind == "json":
        record = problem.record
        text = f"{record['name']} is {record['age']} years old and a {record['job']}"
        return text + (f" in {record['town']}." if "town" in record else ".")
    if problem.kind == "upper":
        return " ".join(problem.items)
    return "\n".join(problem.items) if problem.kind == "comma" else joined(problem.items)


ASKS = {
    "numbered": ("Please make a numbered list of {text}.", "Write these as a list with numbers: {text}"),
    "bulleted": ("Please make a bulleted list of {text}.", "Write these as a list with dashes: {text}"),
    "upper": ("Please write in capital letters: {text}", "Say this in upper case: {text}"),
    "json": ("Please give this as a JSON object: {text}", "Turn this into JSON. {text}"),
    "comma": ("Please put these on one line with commas:\n{text}", "Join with commas:\n{text}"),
}


def chat(problem: Shaping, rng: Random) -> Chat:
    ask = rng.choice(ASKS[problem.kind]).format(text=source(problem, rng))
    if problem.kind == "json":
        grader: dict[str, dict[str, Any]] = {"json_object": {}}
    elif problem.kind == "comma":
        grader = {"sequence": {"ordered": True}}
    else:
        items = [" ".join(problem.items)] if problem.kind == "upper" else list(problem.items)
        grader = {"format": {"kind": problem.kind, "items": items}}
    return Chat((Turn(ask, problem.answer),), problem.answer, grader)


TITLES = {
    "numbered": ("We need {text}.\nList:\n{answer}", "Steps for {text}\n{answer}"),
    "bulleted": ("In the bag: {text}.\nContents\n{answer}", "Notes on {text}\n{answer}"),
    "upper": ("The sign for {text} reads\n{answer}", "Title {text}: {answer}"),
    "json": ("{text}\nRecord: {answer}", "Entry. {text}\nStored as {answer}"),
    "comma": ("{text}\nIn a row: {answer}", "Column\n{text}\nRow\n{answer}"),
}


def document(problems: list[Shaping], rng: Random) -> str:
    parts = [
        rng.choice(TITLES[problem.kind]).format(text=source(problem, rng), answer=problem.answer)
        for problem in problems
    ]
    return "\n".join(parts)


SKILL = Skill("formats", "follow a format: lists, JSON, upper case", 1.1, draw, chat, document, (2, 4))
