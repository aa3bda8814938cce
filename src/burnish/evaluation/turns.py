"""Items of several turns: the model's own answer to one turn stands in the prompt of the next.

An item's messages end with the user's first turn. `meta["turns"]` lists the later ones as mappings: `text`, and where
there is one the turn's own `target` and `grader`. A turn without a grader is asked and not graded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from burnish.types import Example, Message

TURNS = "turns"
"""The key in an item's `meta`. An item that has it, even with an empty list, is a conversation."""


def turn(text: str, target: str | None = None, grader: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """A later turn as `meta["turns"]` holds it."""
    row = {"text": text, "target": target, "grader": grader}
    return {key: value for key, value in row.items() if value is not None}


def is_conversation(item: Example) -> bool:
    """Whether an item's turns are asked one after the other and reported apart."""
    return TURNS in item.meta


def later_turns(item: Example) -> list[dict[str, Any]]:
    """The turns after the first."""
    return list(item.meta.get(TURNS, ()))


def asked(item: Example, answers: Sequence[str]) -> Example:
    """The turn that comes after `answers` as an example: the conversation so far, the turn's target and grader."""
    if not answers:
        return item
    messages = list(item.prompt)
    for answer, later in zip(answers, later_turns(item), strict=False):
        messages += [Message("assistant", answer), Message("user", later["text"])]
    now = later_turns(item)[len(answers) - 1]
    return replace(item, messages=tuple(messages), target=now.get("target"), grader=now.get("grader"))


def graders(item: Example) -> list[dict[str, dict[str, Any]] | None]:
    """The grader of each turn, the first one's first."""
    return [item.grader, *(later.get("grader") for later in later_turns(item))]


def graded_turns(item: Example) -> list[Example]:
    """Each turn that has a grader, as if it were asked alone: for looking at targets and graders before any answer."""
    alone = [replace(item, messages=(Message("user", later["text"]),), target=later.get("target"),
                     grader=later.get("grader")) for later in later_turns(item)]  # fmt: skip
    return [one for one in (item, *alone) if one.grader]


def transcript(item: Example, answers: Sequence[str]) -> str:
    """The answers of a conversation with the user's later turns between them."""
    parts = [answers[0]] if answers else []
    for later, answer in zip(later_turns(item), answers[1:], strict=False):
        parts += [f"user: {later['text']}", f"assistant: {answer}"]
    return "\n\n".join(parts)
