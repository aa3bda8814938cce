"""What a skill is, and how its problems are divided so that training and evaluation can never share one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Split = Literal["train", "dev", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "dev", "held_out")

EVALUATION_SHARE = 10
"""Percent of all problems that belong to `dev`, and again to `held_out`; the rest is `train`."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of a dialogue and its answer."""

    user: str
    assistant: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A problem as a conversation: its turns, the gold answer of the last one, and the grader that checks it."""

    turns: tuple[Turn, ...]
    target: str
    grader: dict[str, dict[str, Any]]
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Skill:
    """One thing Pebble can learn: how to draw a problem, and its two renderings.

    A problem is a frozen dataclass whose `repr` holds its canonical parameters; equal problems are one problem
    whatever words they are asked in. Where several problems share what must stay unseen (the questions about one
    text), a property `identity` names the shared part.
    """

    name: str
    summary: str
    share: float
    """Part of the pretraining documents, relative to the other skills."""
    draw: Callable[[Random], Any]
    chat: Callable[[Any, Random], Chat]
    document: Callable[[list[Any], Random], str]
    """A page about several problems."""
    per_page: tuple[int, int] = (2, 4)
    """Least and most problems on a page."""


def split_of(skill: str, problem: Any) -> Split:
    """The split a problem belongs to, decided by its parameters alone: no seed can move it."""
    identity = getattr(problem, "identity", problem)
    digest = hashlib.blake2b(f"{skill}\x1f{identity!r}".encode(), digest_size=4).digest()
    bucket = int.from_bytes(digest, "little") % 100
    if bucket < EVALUATION_SHARE:
        return "dev"
    return "held_out" if bucket < 2 * EVALUATION_SHARE else "train"


def draw_in(skill: Skill, split: Split, rng: Random) -> Any:
    """Draw problems until one belongs to the split."""
    while True:
        problem = skill.draw(rng)
        if split_of(skill.name, problem) == split:
            return problem


def final(working: list[str], answer: object) -> str:
    """An assistant's answer: the steps, then the line that is graded."""
    return "\n".join([*working, f"Answer: {answer}"])


def joined(items: list[str] | tuple[str, ...]) -> str:
    """'a, b and c'."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
