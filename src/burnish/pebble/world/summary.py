"""A notice of several sentences, told again in exactly one."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from burnish.pebble.world.base import Chat, Skill, Turn
from burnish.pebble.world.words import DAYS, FOODS, NAMES, PLACES, THINGS, plural

ACTIONS = {"sells": THINGS, "shows": THINGS, "repairs": THINGS, "cooks": FOODS, "brings": FOODS, "buys": THINGS}


@dataclass(frozen=True, slots=True)
class Notice:
    """Who does what with which thing, where and when."""

    name: str
    action: str
    thing: str
    place: str
    day: str

    @property
    def things(self) -> str:
        return plural(self.thing) if self.thing in THINGS else self.thing

    @property
    def summary(self) -> str:
        return f"{self.name} {self.action} {self.things} at the {self.place} on {self.day}."


def draw(rng: Random) -> Notice:
    action = rng.choice(list(ACTIONS))
    return Notice(rng.choice(NAMES), action, rng.choice(ACTIONS[action]), rng.choice(PLACES), rng.choice(DAYS))


WHO = ("{name} is busy this week.", "This is about {name}.", "Many people know {name}.", "{name} has made a plan.")
WHERE = (
    "The place is the {place}.",
    "Look for the {place}.",
    "It happens at the {place}.",
    "People meet at the {place}.",
)
WHEN = ("It is on {day}.", "The day is {day}.", "Everything starts on {day}.", "{day} is the day.")
WHAT = (
    "There {name} {action} {things}.",
    "As always, {name} {action} {things}.",
    "This time {name} {action} {things}.",
)
FILLER = (
    "The weather looks fine.",
    "Children are welcome.",
    "There is enough room.",
    "The door is open.",
    "Bring a friend.",
)


def tell(notice: Notice, rng: Random) -> str:
    """The notice in four or five sentences: who first, the rest in any order."""
    rest = [rng.choice(WHERE), rng.choice(WHEN), rng.choice(WHAT)]
    if rng.random() < 0.6:
        rest.append(rng.choice(FILLER))
    rng.shuffle(rest)
    facts = {"name": notice.name, "action": notice.action, "things": notice.things}
    return " ".join([rng.choice(WHO), *rest]).format(place=notice.place, day=notice.day, **facts)


ASKS = (
    "Please summarize this in one sentence: {text}",
    "{text}\nTell me this in a single sentence.",
    "Give a one sentence summary. {text}",
)


def chat(notice: Notice, rng: Random) -> Chat:
    ask = rng.choice(ASKS).format(text=tell(notice, rng))
    facts = [notice.name, notice.action, notice.things, notice.place, notice.day]
    return Chat((Turn(ask, notice.summary),), notice.summary, {"summary": {"facts": facts, "max_words": 14}})


CLOSES = ("In short: {summary}", "Headline: {summary}", "In brief: {summary}")


def document(notices: list[Notice], rng: Random) -> str:
    parts = [f"{tell(notice, rng)}\n{rng.choice(CLOSES).format(summary=notice.summary)}" for notice in notices]
    return "\n".join(parts)


SKILL = Skill("summary", "say a short notice in exactly one sentence", 1.0, draw, chat, document, (2, 3))
