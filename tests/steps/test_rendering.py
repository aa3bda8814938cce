"""Rows that are too long: the policy is explicit, whole turns go, and every row is accounted for."""

from __future__ import annotations

import pytest

from burnish.errors import DataError
from burnish.steps.rendering import cuts, render_all
from burnish.types import Example, Message, PreferencePair

TALK = Example("e", tuple(Message(role, f"{role[0]}{n}") for n in (1, 2, 3) for role in ("user", "assistant")))  # type: ignore[arg-type]


def texts(row: Example | PreferencePair) -> list[str]:
    turns = row.messages if isinstance(row, Example) else row.prompt
    return [turn.content for turn in turns]


def test_a_conversation_loses_its_last_turns() -> None:
    assert [texts(cut) for cut in cuts(TALK)] == [["u1", "a1", "u2", "a2"], ["u1", "a1"]]


def test_a_pair_loses_the_oldest_turns_of_its_prompt_and_keeps_the_system() -> None:
    pair = PreferencePair("p", (Message("system", "s"), *TALK.messages[:-1]), "c", "r")
    assert [texts(cut) for cut in cuts(pair)] == [["s", "u2", "a2", "u3"], ["s", "u3"]]
    plain = PreferencePair("p", TALK.messages[:-1], "c", "r")
    assert [texts(cut) for cut in cuts(plain)] == [["u2", "a2", "u3"], ["u3"]]
    assert list(cuts(PreferencePair("p", TALK.messages[:1], "c", "r"))) == []


def length(row: Example) -> int:
    return len(row.messages)


SHORT = Example("s", TALK.messages[:2])


def test_policies_account_for_every_row() -> None:
    whole = render_all([TALK, SHORT], lambda row: row, length, 6, "error")
    assert (len(whole.rows), whole.dropped, whole.truncated) == (2, {}, 0)
    dropped = render_all([TALK, SHORT], lambda row: row, length, 4, "drop")
    assert (dropped.rows, dropped.dropped, dropped.truncated) == ([SHORT], {"overlong": 1}, 0)
    cut = render_all([TALK, SHORT], lambda row: row, length, 5, "truncate")
    assert ([length(row) for row in cut.rows], cut.dropped, cut.truncated) == ([4, 2], {}, 1)
    hopeless = render_all([TALK, SHORT], lambda row: row, length, 1, "truncate")
    assert (hopeless.rows, hopeless.dropped) == ([], {"overlong": 2})


def test_without_a_policy_a_long_row_is_an_error() -> None:
    with pytest.raises(DataError, match="row e has 6 tokens, and 5 fit") as caught:
        render_all([TALK], lambda row: row, length, 5, "error")
    assert "overlong: truncate" in caught.value.hint
