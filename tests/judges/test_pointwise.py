"""The rating judge: what it asks, what it reads, and what it leaves unscored."""

from __future__ import annotations

import pytest

from burnish.engines.base import Prompt
from burnish.engines.scripted import Scripted
from burnish.judges.pointwise import Pointwise
from burnish.types import Example, Message

TALK = Example("e", (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Name a colour"),
                     Message("assistant", "gold answer")))  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "value"),
    [("[[10]]", 1.0), ("The answer is fine. [[1]]", 0.0), (" 4 ", 1 / 3), ("[[ 7 ]] because", 2 / 3),
     ("I give it 7 of 10", None), ("", None), ("[[11]]", None), ("[[0]]", None)],
)  # fmt: skip
def test_ratings(reply: str, value: float | None) -> None:
    score = Pointwise().read(reply)
    assert score.value == (None if value is None else pytest.approx(value))
    assert (score.error is None) == (value is not None)


def test_it_sees_the_conversation_and_the_answer_and_not_the_gold_one() -> None:
    asked: list[Prompt] = []

    def judge(prompt: Prompt, sample: int) -> str:
        asked.append(prompt)
        return "[[10]]" if "red" in str(prompt) else "no idea"

    scores = Pointwise().score(Scripted(judge), [TALK], [["red", "blue"]])
    assert [score.value for score in scores[0]] == [1.0, None]
    text = str(asked[0])
    assert "Hello" in text and "Name a colour" in text and "red" in text and "gold answer" not in text
