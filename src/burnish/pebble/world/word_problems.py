"""Stories about buying, giving and sharing that take two or three sums."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from burnish.pebble.world.base import Chat, Skill, Turn, final
from burnish.pebble.world.words import FRUITS, NAMES, THINGS, plural

GOODS = (*FRUITS, *THINGS)


@dataclass(frozen=True, slots=True)
class Story:
    """How many of a thing someone starts with, and what happens: signed amounts, or (packs, size) bought."""

    name: str
    thing: str
    start: int
    events: tuple[tuple[str, int, int], ...]

    @property
    def identity(self) -> object:
        """The numbers alone: another name or thing makes no new problem."""
        return self.start, self.events

    @property
    def things(self) -> str:
        return plural(self.thing)

    @property
    def answer(self) -> int:
        return self.start + sum(_change(event) for event in self.events)


def _change(event: tuple[str, int, int]) -> int:
    kind, first, second = event
    return {"gain": first, "lose": -first, "packs": first * second}[kind]


def draw(rng: Random) -> Story:
    start = now = rng.randrange(5, 40)
    events: list[tuple[str, int, int]] = []
    for _ in range(rng.choice((2, 2, 3))):
        kind = rng.choice(("gain", "lose", "packs")) if now < 60 else "lose"
        event = (kind, rng.randrange(2, 7), rng.randrange(2, 8)) if kind == "packs" else None
        if event is None:
            event = (kind, rng.randrange(2, min(now, 20) if kind == "lose" and now > 3 else 20), 0)
        if now + _change(event) < 0:
            event = ("gain", event[1], 0)
        events.append(event)
        now += _change(event)
    return Story(rng.choice(NAMES), rng.choice(GOODS), start, tuple(events))


def working(story: Story) -> list[str]:
    """One line per sum; a pack takes two."""
    lines, now = [], story.start
    for event in story.events:
        kind, first, second = event
        amount = abs(_change(event))
        if kind == "packs":
            lines.append(f"{first}*{second}={amount}")
        after = now + _change(event)
        lines.append(f"{now}{'-' if kind == 'lose' else '+'}{amount}={after}")
        now = after
    return lines


EVENTS = {
    "gain": ("{name} buys {n} more.", "{name} finds {n} more.", "A friend gives {name} {n} more."),
    "lose": ("{name} gives away {n}.", "{name} loses {n}.", "{name} sells {n}."),
    "packs": ("{name} buys {n} bags of {m}.", "Then come {n} boxes with {m} each."),
}


def tell(story: Story, rng: Random) -> str:
    """The story without its question."""
    parts = [f"{story.name} has {story.start} {story.things}."]
    for kind, first, second in story.events:
        parts.append(rng.choice(EVENTS[kind]).format(name=story.name, n=first, m=second))
    return " ".join(parts)


ASKS = (
    "{story} How many {things} does {name} have now?",
    "{story} How many {things} are there at the end?",
    "Please solve this. {story} How many {things} does {name} end up with?",
)


def chat(story: Story, rng: Random) -> Chat:
    ask = rng.choice(ASKS).format(story=tell(story, rng), things=story.things, name=story.name)
    return Chat((Turn(ask, final(working(story), story.answer)),), str(story.answer), {"numeric": {}})


CLOSES = (
    "So {name} now has {n} {things}.",
    "That leaves {name} with {n} {things}.",
    "In the end there are {n} {things}.",
)


def document(stories: list[Story], rng: Random) -> str:
    parts = []
    for story in stories:
        close = rng.choice(CLOSES).format(name=story.name, n=story.answer, things=story.things)
        parts.append("\n".join([tell(story, rng), *working(story), close]))
    return "\n".join(parts)


SKILL = Skill("word_problems", "two and three step stories about amounts", 1.6, draw, chat, document, (1, 3))
