"""The comparing judge: both orders, verdicts by words and by probability, and answers that try to give orders."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from burnish.engines.base import Prompt, Scored
from burnish.engines.scripted import Scripted
from burnish.judges.pairwise import Pairwise
from burnish.types import Completion, Example, Message, Sampling, StopReason

ITEM = Example("e", (Message("user", "Name a colour"),), target="red")


def prefers(word: str) -> Scripted:
    def judge(prompt: Prompt, sample: int) -> str:
        text = prompt if isinstance(prompt, str) else prompt[0].content
        return "A" if word in text.split("Answer B:")[0].split("Answer A:")[1] else "B"

    return Scripted(judge)


@pytest.mark.parametrize("by", ["text", "logprob"])
def test_a_consistent_verdict(by: str) -> None:
    (one, two) = Pairwise(by=by).compare(prefers("red"), [ITEM, ITEM], ["red", "blue"], ["blue", "red"])
    assert one.preference is not None and two.preference is not None
    assert one.preference > 0.5 > two.preference
    assert not one.flipped and not two.flipped


def test_where_the_order_decides_it_is_a_tie() -> None:
    (verdict,) = Pairwise(by="text").compare(Scripted(lambda *_: "[[A]]"), [ITEM], ["red"], ["blue"])
    assert verdict.orders == (1.0, 0.0) and verdict.preference == 0.5 and verdict.flipped


def test_probabilities_say_how_sure_it_is() -> None:
    class Sure(Scripted):
        def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
            # Shares of A, B and T: 0.6, 0.2, 0.2 in the first order, 0.3, 0.5, 0.2 in the other.
            return [[Scored(math.log(share), 1) for share in shares] for shares in ((0.6, 0.2, 0.2), (0.3, 0.5, 0.2))]

    (verdict,) = Pairwise().compare(Sure(["unused"]), [ITEM], ["red"], ["blue"])
    # Tie counts half: 0.6 + 0.1 = 0.7 for the first; 1 - (0.3 + 0.1) = 0.6 with it shown second; 0.65 on average.
    assert verdict.orders == pytest.approx((0.7, 0.6))
    assert verdict.preference == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("reply", "value"),
    [("A", 1.0), ("B.", 0.0), ("T", 0.5), ("**A**", 1.0), ("Answer B is better", 0.0), ("I prefer [[A]]", 1.0),
     ("Both are fine", None), ("", None), ("Better is the second", None)],
)  # fmt: skip
def test_replies(reply: str, value: float | None) -> None:
    (verdict,) = Pairwise(by="text").compare(Scripted(lambda *_: reply), [ITEM], ["red"], ["blue"])
    assert verdict.orders[0] == value
    assert (verdict.preference is None) == (value is None)
    assert (verdict.error is None) == (value is not None)


def test_a_server_that_fails_leaves_the_pair_unscored() -> None:
    class Failing(Scripted):
        def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
            return [[Completion("timeout", stop=StopReason.FAILED)] for _ in prompts]

    (verdict,) = Pairwise(by="text").compare(Failing(["A"]), [ITEM], ["red"], ["blue"])
    assert verdict.preference is None and verdict.error == "the judge gave no reply: timeout"


@pytest.mark.parametrize("by", ["text", "logprob"])
def test_what_is_too_long_is_unscored_and_the_rest_is_judged(by: str) -> None:
    class Short(Scripted):
        def too_long(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]] | None = None) -> dict[int, str]:
            return {number: "900 tokens" for number, prompt in enumerate(prompts) if "long" in str(prompt)}

    engine = Short(lambda prompt, sample: "A")
    one, two, three = Pairwise(by=by).compare(engine, [ITEM] * 3, ["a", "a long one", "c"], ["b", "b", "d"])
    assert one.preference is not None and three.preference is not None
    assert two.preference is None and two.error == "too long for the judge: 900 tokens"
    assert engine.usage.calls == 4


def test_it_sees_the_reference_unless_told_not_to() -> None:
    seen: list[str] = []
    engine = Scripted(lambda prompt, sample: seen.append(str(prompt)) or "A")
    Pairwise(by="text").compare(engine, [ITEM], ["x"], ["y"])
    Pairwise(by="text", reference=False).compare(engine, [ITEM], ["x"], ["y"])
    assert "Reference answer:" in seen[0] and "Reference answer:" not in seen[2]


def test_several_answers_are_scored_by_how_often_they_win() -> None:
    def judge(prompt: Prompt, sample: int) -> str:
        first, second = (part.split("\n")[1] for part in str(prompt[0].content).split("Answer ")[1:3])
        return "T" if first == second else "A" if first < second else "B"

    ((a, b, c),) = Pairwise(by="text").score(Scripted(judge), [ITEM], [["a", "c", "b"]])
    assert [one.value for one in (a, b, c)] == [1.0, 0.0, 0.5]
    ((alone,),) = Pairwise(by="text").score(Scripted(judge), [ITEM], [["a"]])
    assert alone.value is None and alone.error == "there is no other answer"
