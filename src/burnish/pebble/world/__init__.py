"""A seeded, unlimited world of small problems in distinct skills, with verifiers and worked solutions.

Each problem has two renderings. As a *document* (a page of a textbook, an almanac, a ledger) it is what the base
model is pretrained on; as a *chat* it is what fine-tuning and evaluation use. The steps of a solution are the same in
both, the words around them are not: the base can compute, and does not know that it is asked to.

Training and evaluation are disjoint by construction: a hash of a problem's parameters decides its split, whatever the
seed, and documents are made of `train` problems only. Facts are the exception that the documents must tell: for them
a problem is a question with its set of options. What can recur is a part: a sum of two-digit numbers that arithmetic
asks may be one line inside a story or a ledger of another skill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import count, islice
from random import Random

from burnish.errors import DataError
from burnish.pebble.world import arithmetic, dialogue, facts, formats, reading, sorting, summary, units, word_problems
from burnish.pebble.world.base import SPLITS, Chat, Skill, Split, draw_in, split_of
from burnish.registry import suggest
from burnish.rng import seed_for
from burnish.types import Example, Message

__all__ = ["SKILLS", "SPLITS", "Skill", "Split", "chats", "choices", "documents", "plant_copies", "split_of"]

SKILLS: dict[str, Skill] = {
    module.SKILL.name: module.SKILL
    for module in (arithmetic, word_problems, units, sorting, facts, reading, summary, formats, dialogue)
}
SOURCE = "pebble"
PATIENCE = 10_000
"""Repeated problems drawn in a row before a skill counts as exhausted."""


def chats(skill: str | None, split: Split, n: int, seed: int) -> list[Example]:
    """`n` conversations about different problems of one skill, or of all skills in turn for None.

    `train` conversations end with the assistant; the others end with the user, ready to be asked. All carry the
    target, the grader, and in `meta` the skill, the split and the gold answer (`solution`). A larger `n` begins with
    the same examples. Raises DataError for an unknown skill or split, or when `n` exceeds the skill's problems.
    """
    if skill is not None and skill not in SKILLS:
        raise DataError(f"Pebble's world has no skill '{skill}'", hint=suggest(skill, list(SKILLS)))
    if split not in SPLITS:
        raise DataError(f"Pebble's world has no split '{split}'", hint=suggest(split, list(SPLITS)))
    names = [skill] if skill is not None else list(SKILLS)
    streams = [_stream(SKILLS[name], split, seed) for name in names]
    return [next(streams[place % len(streams)]) for place in range(n)]


def _stream(skill: Skill, split: Split, seed: int) -> Iterator[Example]:
    """Endless conversations of one skill, each problem once."""
    rng = Random(seed_for(seed, SOURCE, "chats", skill.name, split))
    seen: set[str] = set()
    repeats = 0
    while repeats < PATIENCE:
        problem = draw_in(skill, split, rng)
        key = repr(getattr(problem, "identity", problem))
        repeats = repeats + 1 if key in seen else 0
        if key not in seen:
            seen.add(key)
            yield _example(skill, split, problem, skill.chat(problem, rng))
    raise DataError(f"skill '{skill.name}' has only {len(seen)} problems in split '{split}'", hint="ask for fewer")


def _example(skill: Skill, split: Split, problem: object, chat: Chat) -> Example:
    messages = [Message("system", chat.system)] if chat.system else []
    for turn in chat.turns:
        messages += [Message("user", turn.user), Message("assistant", turn.assistant)]
    solution = messages[-1].content
    return Example(
        id=f"{SOURCE}-{skill.name}-{_digest(problem, chat)}",
        messages=tuple(messages if split == "train" else messages[:-1]),
        target=chat.target,
        grader=chat.grader,
        source=SOURCE,
        meta={"skill": skill.name, "split": split, "solution": solution},
    )


def _digest(problem: object, rendering: object) -> str:
    return hashlib.blake2b(f"{problem!r}\x1f{rendering!r}".encode(), digest_size=6).hexdigest()


def choices(split: Split, n: int, seed: int) -> list[Example]:
    """`n` facts in plain completion style, whose answer is the most probable of the options: no chat is needed."""
    rng = Random(seed_for(seed, SOURCE, "choices", split))
    found: dict[str, Example] = {}
    while len(found) < n:
        quiz = draw_in(facts.SKILL, split, rng)
        key = _digest(quiz.identity, "")
        found.setdefault(
            key,
            Example(
                id=f"{SOURCE}-choices-{key}",
                messages=(Message("user", f"Question: {quiz.question}\nAnswer:"),),
                target=quiz.gold,
                choices=quiz.options,
                source=SOURCE,
                meta={"skill": "facts", "split": split},
            ),
        )
    return list(found.values())


def documents(n: int | None, seed: int, start: int = 0) -> Iterator[str]:
    """Pretraining pages from number `start`: `n` of them, or without end for None.

    Page i is a function of `seed` and i alone.
    """
    skills = list(SKILLS.values())
    shares = [skill.share for skill in skills]
    for page in islice(count(start), n):
        rng = Random(seed_for(seed, SOURCE, "documents", page))
        skill = rng.choices(skills, shares)[0]
        problems = [draw_in(skill, "train", rng) for _ in range(rng.randint(*skill.per_page))]
        yield skill.document(problems, rng)


def plant_copies(items: list[Example], n: int, seed: int) -> list[Example]:
    """`n` training conversations that are near-copies of evaluation items, to prove that decontamination finds them.

    The last question is edited lightly (a greeting, spacing, end mark, letter case) and answered with the gold
    answer. `meta["copy_of"]` names the item. Raises DataError when there are fewer than `n` items.
    """
    if n > len(items):
        raise DataError(f"cannot plant {n} copies of {len(items)} evaluation items", hint="plant at most one of each")
    rng = Random(seed_for(seed, SOURCE, "copies"))
    return [_copy(item, rng) for item in rng.sample(items, n)]


EDITS: tuple[Callable[[str], str], ...] = (
    lambda text: "Hello! " + text,
    lambda text: text + " Thanks.",
    lambda text: text.replace(" ", "  ", 2),
    lambda text: text.rstrip("?.") + " ?",
    lambda text: text.replace("Please ", "please do "),
    lambda text: text[:1].lower() + text[1:],
)


def _copy(item: Example, rng: Random) -> Example:
    *before, question = item.prompt
    for edit in rng.sample(EDITS, 2):
        question = Message("user", edit(question.content))
    answer = Message("assistant", item.meta["solution"])
    return Example(
        id=f"{item.id}-copy",
        messages=(*before, question, answer),
        target=item.target,
        grader=item.grader,
        source=SOURCE,
        meta={**item.meta, "split": "train", "copy_of": item.id},
    )
