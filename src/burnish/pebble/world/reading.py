"""Short texts about several people or things, and a question that one sentence of the text answers."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from burnish.pebble.world.base import Chat, Skill, Turn
from burnish.pebble.world.words import ANIMALS, COLOURS, JOBS, NAMES, PLACES, THINGS, TOWNS


@dataclass(frozen=True, slots=True)
class Passage:
    """`kind` of text, its rows (subject, attribute, attribute), the row asked about and which column is asked for."""

    kind: str
    rows: tuple[tuple[str, str, str], ...]
    row: int
    column: int

    @property
    def identity(self) -> object:
        """All questions about one text belong to one split."""
        return self.kind, self.rows

    @property
    def answer(self) -> str:
        return self.rows[self.row][self.column]


POOLS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "people": (NAMES, JOBS, TOWNS),
    "pets": (NAMES, COLOURS, ANIMALS),
    "rooms": (THINGS, COLOURS, PLACES),
}
TEXTS = {
    "people": ("{0} is a {1} in {2}.", "{0} lives in {2} and works as a {1}.", "The {1} from {2} is {0}."),
    "pets": ("{0} keeps a {1} {2}.", "The {1} {2} belongs to {0}.", "{0} has a {2}, and it is {1}."),
    "rooms": ("A {1} {0} is in the {2}.", "In the {2} there is a {1} {0}.", "The {0} in the {2} is {1}."),
}
ASKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "people": (("Who works as a {1}?", "Who lives in {2}?"), ("What is the job of {0}?",), ("Where does {0} live?",)),
    "pets": (
        ("Who has the {2}?", "Who has a {1} animal?"),
        ("What colour is {0}'s animal?",),
        ("Which animal does {0} have?",),
    ),
    "rooms": (("What is in the {2}?", "Which thing is {1}?"), ("What colour is the {0}?",), ("Where is the {0}?",)),
}
NOTES: dict[str, tuple[tuple[str, ...], ...]] = {
    "people": (("The {1} is", "The one in {2} is"), ("{0}'s work:",), ("{0}'s town:",)),
    "pets": (("The {2} is kept by", "The {1} one is kept by"), ("Colour of {0}'s pet:",), ("{0}'s pet:",)),
    "rooms": (("In the {2}:", "The {1} one:"), ("Colour of the {0}:",), ("Place of the {0}:",)),
}


def draw(rng: Random) -> Passage:
    kind = rng.choice(list(POOLS))
    size = rng.randrange(3, 6)
    rows = zip(*(rng.sample(pool, size) for pool in POOLS[kind]), strict=True)
    return Passage(kind, tuple(rows), rng.randrange(size), rng.randrange(3))


def tell(passage: Passage, rng: Random) -> str:
    return " ".join(rng.choice(TEXTS[passage.kind]).format(*row) for row in passage.rows)


FRAMES = ("{text}\n{ask}", "Read this: {text}\n{ask}", "{ask}\n{text}")


def chat(passage: Passage, rng: Random) -> Chat:
    ask = rng.choice(ASKS[passage.kind][passage.column]).format(*passage.rows[passage.row])
    text = rng.choice(FRAMES).format(text=tell(passage, rng), ask=ask)
    answer = f"Answer: {passage.answer}"
    return Chat((Turn(text, answer),), passage.answer, {"exact": {"last_line": True}})


def document(passages: list[Passage], rng: Random) -> str:
    parts = []
    for passage in passages:
        lines = [tell(passage, rng)]
        order = [(row, column) for row in range(len(passage.rows)) for column in range(3)]
        for row, column in rng.sample(order, rng.randrange(3, 7)):
            note = rng.choice(NOTES[passage.kind][column]).format(*passage.rows[row])
            lines.append(f"{note} {passage.rows[row][column]}.")
        parts.append("\n".join(lines))
    return "\n".join(parts)


SKILL = Skill("reading", "answer a question about a short text", 1.5, draw, chat, document, (1, 2))
