"""Conversations that carry something along: a running total, a shopping list, who likes what."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from burnish.pebble.world.base import Chat, Skill, Turn, joined
from burnish.pebble.world.words import ANIMALS, COLOURS, FOODS, FRUITS, NAMES


@dataclass(frozen=True, slots=True)
class Session:
    """`kind` and its steps.

    total: `+n` or `-n`, the first is the start. list: `+item` or `-item`. name: the name, colour, animal and food.
    """

    kind: str
    steps: tuple[str, ...]


def draw(rng: Random) -> Session:
    kind = rng.choice(("total", "total", "list", "list", "name"))
    if kind == "name":
        return Session(kind, (rng.choice(NAMES), rng.choice(COLOURS), rng.choice(ANIMALS), rng.choice(FOODS)))
    if kind == "total":
        now = rng.randrange(10, 50)
        steps = [f"+{now}"]
        for _ in range(rng.randrange(2, 4)):
            change = rng.randrange(2, 20) * (1 if now < 20 or rng.random() < 0.6 else -1)
            now += change
            steps.append(f"{change:+d}")
        return Session(kind, tuple(steps))
    items = rng.sample((*FOODS, *FRUITS), 5)
    held, steps = items[:2], [f"+{item}" for item in items[:2]]
    for item in items[2 : rng.randrange(4, 6)]:
        if len(held) > 1 and rng.random() < 0.4:
            gone = rng.choice(held)
            held.remove(gone)
            steps.append(f"-{gone}")
        else:
            held.append(item)
            steps.append(f"+{item}")
    return Session(kind, tuple(steps))


def totals(session: Session) -> list[int]:
    """The total after each step."""
    now, found = 0, []
    for step in session.steps:
        now += int(step)
        found.append(now)
    return found


def lists(session: Session) -> list[tuple[str, ...]]:
    """What is on the list after each step."""
    held: tuple[str, ...] = ()
    found = []
    for step in session.steps:
        item = step[1:]
        held = (*held, item) if step[0] == "+" else tuple(thing for thing in held if thing != item)
        found.append(held)
    return found


def chat(session: Session, rng: Random) -> Chat:
    return {"total": _total_chat, "list": _list_chat, "name": _name_chat}[session.kind](session, rng)


def _total_chat(session: Session, rng: Random) -> Chat:
    found = totals(session)
    start = rng.choice(("Let us keep a total. Start with {n}.", "Please keep count for me. We begin with {n}."))
    turns = [Turn(start.format(n=found[0]), f"Answer: {found[0]}")]
    for before, step, after in zip(found, session.steps[1:], found[1:], strict=False):
        word = rng.choice(("Add {n}.", "Now {n} more.") if step[0] == "+" else ("Take away {n}.", "Now {n} less."))
        turns.append(Turn(word.format(n=step[1:]), f"{before}{step}={after}\nAnswer: {after}"))
    return Chat(tuple(turns), str(found[-1]), {"numeric": {}})


def _list_chat(session: Session, rng: Random) -> Chat:
    found = lists(session)
    first, second = session.steps[0][1:], session.steps[1][1:]
    start = rng.choice(("My shopping list has {a} and {b}.", "Please keep a shopping list: {a} and {b}."))
    turns = [Turn(start.format(a=first, b=second), f"Answer: {', '.join(found[1])}")]
    for step, held in zip(session.steps[2:], found[2:], strict=True):
        word = rng.choice(
            ("Add {x}.", "I also need {x}.") if step[0] == "+" else ("Remove {x}.", "I have {x} already.")
        )
        turns.append(Turn(word.format(x=step[1:]), f"Answer: {', '.join(held)}"))
    return Chat(tuple(turns), ", ".join(found[-1]), {"sequence": {"ordered": False}})


def _name_chat(session: Session, rng: Random) -> Chat:
    name, colour, animal, food = session.steps
    turns = [
        Turn(rng.choice(("Hello, I am {}.", "Hi, my name is {}.")).format(name), f"Hello {name}."),
        Turn(f"I like {colour}, my pet is a {animal} and I eat {food}.", f"I will remember that, {name}."),
    ]
    asks = {
        "What is my name?": name,
        "Which colour do I like?": colour,
        "What is my pet?": animal,
        "What do I eat?": food,
    }
    ask = rng.choice(list(asks))
    turns.append(Turn(ask, f"Answer: {asks[ask]}"))
    return Chat(tuple(turns), asks[ask], {"exact": {"last_line": True}})


def document(sessions: list[Session], rng: Random) -> str:
    return "\n".join({"total": _ledger, "list": _pantry, "name": _portrait}[item.kind](item, rng) for item in sessions)


def _ledger(session: Session, rng: Random) -> str:
    """An account book: each entry with the sum it makes."""
    found = totals(session)
    lines = [rng.choice(("Account book. Opening {n}.", "Ledger. At first {n}.")).format(n=found[0])]
    for before, step, after in zip(found, session.steps[1:], found[1:], strict=False):
        word = rng.choice(("In {n}.", "Plus {n}.") if step[0] == "+" else ("Out {n}.", "Minus {n}."))
        lines.append(f"{word.format(n=step[1:])} {before}{step}={after}")
    return "\n".join([*lines, f"Closing {found[-1]}."])


def _pantry(session: Session, rng: Random) -> str:
    """A pantry diary: what comes, what goes, and what is on the shelf after it."""
    found = lists(session)
    lines = [f"Pantry: {', '.join(found[1])}"]
    for step, held in zip(session.steps[2:], found[2:], strict=True):
        word = rng.choice(("In comes {x}", "New {x}") if step[0] == "+" else ("Out goes {x}", "No more {x}"))
        lines.append(f"{word.format(x=step[1:])}: {', '.join(held)}")
    return "\n".join(lines)


def _portrait(session: Session, rng: Random) -> str:
    name, colour, animal, food = session.steps
    facts = [f"likes {colour}", f"keeps a {animal}", f"eats {food}"]
    rng.shuffle(facts)
    notes = [f"Name: {name}", f"Colour: {colour}", f"Pet: {animal}", f"Food: {food}"]
    rng.shuffle(notes)
    return f"{name} {joined(facts)}.\n" + "\n".join(notes)


SKILL = Skill("dialogue", "carry a total, a list or a name through several turns", 1.3, draw, chat, document, (1, 3))
