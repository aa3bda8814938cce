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


def test_aspects_are_asked_apart_and_averaged() -> None:
    def judge(prompt: Prompt, sample: int) -> str:
        return "[[10]]" if "correctness" in str(prompt) else "[[4]]"

    ((score,),) = Pointwise(aspects=["correctness", "style"]).score(Scripted(judge), [TALK], [["red"]])
    assert score.value == pytest.approx((1 + 1 / 3) / 2)  # 10 and 4 of 10 are 1 and 3/9
    assert score.answer == "correctness 10, style 4"
    ((broken,),) = Pointwise(aspects=["correctness", "style"]).score(Scripted(["[[3]]", "hm"]), [TALK], [["red"]])
    assert broken.value is None and broken.error is not None and broken.error.startswith("style: no rating")


def test_a_reference_answer_is_shown_where_there_is_one() -> None:
    seen: list[str] = []
    engine = Scripted(lambda prompt, sample: seen.append(str(prompt)) or "[[5]]")
    item = Example("e", (Message("user", "2 + 2?"),), target="four, surely")
    Pointwise().score(engine, [item], [["4"]])
    Pointwise(reference=False).score(engine, [item], [["4"]])
    assert "four, surely" in seen[0] and "by the reference answer" in seen[0]
    assert "four, surely" not in seen[1] and "reference" not in seen[1]


def test_the_expected_rating_under_the_probabilities() -> None:
    # The script's option has log-probability 0, the two others -1: shares 1, 1/e, 1/e of 1.7358 in all.
    ((score,),) = Pointwise(scale=3, by="logprob").score(Scripted(["[[3]]"]), [TALK], [["red"]])
    share = 1 / (1 + 2 * 0.36788)
    expected = 3 * share + (1 + 2) * 0.36788 * share
    assert score.value == pytest.approx((expected - 1) / 2, abs=1e-4)


def test_two_answers_are_compared_by_their_ratings() -> None:
    replies = iter(["[[7]]", "[[3]]", "[[5]]", "[[5]]", "[[5]]", "hm"])
    verdicts = Pointwise().compare(Scripted(lambda *_: next(replies)), [TALK] * 3, ["a"] * 3, ["b"] * 3)
    assert [one.preference for one in verdicts] == [1.0, 0.5, None]
    assert not verdicts[0].flipped and verdicts[2].error is not None
