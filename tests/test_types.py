"""The JSON form of the nouns is lossless."""

from __future__ import annotations

import json

import pytest

from burnish.types import Example, Message, PreferencePair, as_row, example_from_row, pair_from_row

USER, ASSISTANT = Message("user", "2+2?"), Message("assistant", "4")

EXAMPLES = [
    Example("a", (USER, ASSISTANT), "4", {"numeric": {"tolerance": 0}}, source="f:1", meta={"skill": "x"}),
    Example("b", (Message("system", "be kind", train=False), USER)),
    Example("c", (USER,), "red", choices=("red", "blue")),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
def test_examples_survive_json(example: Example) -> None:
    assert example_from_row(json.loads(json.dumps(as_row(example)))) == example


@pytest.mark.parametrize("rejected", ["5", ""])
def test_pairs_survive_json(rejected: str) -> None:
    pair = PreferencePair("a", (USER,), "4", rejected, 1.0, "f", {"k": 1})
    assert pair_from_row(json.loads(json.dumps(as_row(pair)))) == pair


def test_the_prompt_ends_before_the_last_answer() -> None:
    assert Example("a", (USER, ASSISTANT)).prompt == (USER,)
    assert Example("a", (USER, ASSISTANT, USER)).prompt == (USER, ASSISTANT, USER)


def test_only_assistant_turns_train_by_default() -> None:
    assert ASSISTANT.trains and not USER.trains
    assert not Message("assistant", "x", train=False).trains and Message("user", "x", train=True).trains
