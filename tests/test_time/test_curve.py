"""Accuracy against tokens, by hand on two items."""

from __future__ import annotations

import pytest

from burnish.errors import EvaluationError
from burnish.test_time.curve import Sampled, curve
from burnish.test_time.strategies.majority import Majority
from burnish.types import Completion, Score


def item(name: str, answers: list[tuple[str, float | None]], length: int = 10) -> Sampled:
    completions = [Completion("t", tuple(range(length)), (-1.0,) * length, prompt_tokens=20) for _ in answers]
    return Sampled(name, completions, [Score(value, answer) for answer, value in answers])


def test_points_by_hand() -> None:
    # a: right right wrong; b: wrong1 wrong2 right, answers all different.
    # n=1: a 2/3, b 1/3 -> 1/2. n=3: a wins 1, b is a three-way tie 1/3 -> 2/3. n=2: a: (1 + 1/2 + 1/2) / 3 = 2/3,
    # b 1/3 -> 1/2. pass@2: a 1, b 2/3 -> 5/6.
    items = [
        item("a", [("7", 1.0), ("7", 1.0), ("8", 0.0)]),
        item("b", [("1", 0.0), ("2", 0.0), ("3", 1.0)], length=20),
    ]
    one, two, three = curve(items, [3, 1, 2, 1], Majority())
    assert [point.n for point in (one, two, three)] == [1, 2, 3]
    assert one.accuracy.mean == one.ceiling.mean == pytest.approx(1 / 2)
    assert (two.accuracy.mean, two.ceiling.mean) == (pytest.approx(1 / 2), pytest.approx(5 / 6))
    assert (three.accuracy.mean, three.ceiling.mean) == (pytest.approx(2 / 3), 1.0)
    # tokens: the prompt once, then n answers of 10 (a) or 20 (b): 20 + n * 15
    assert [point.tokens for point in (one, two, three)] == [35.0, 50.0, 65.0]
    assert three.gain.difference == pytest.approx(1 / 6)
    assert one.gain.difference == 0.0
    assert 0 <= three.accuracy.low <= three.accuracy.high <= 1


def test_tasks_count_alike_as_in_an_evaluation() -> None:
    # task x: three items right, task y: one item wrong. The mean of items is 3/4, of tasks 1/2.
    items = [Sampled(f"x{n}", *_parts("7", 1.0), task="x") for n in range(3)] + [
        Sampled("y", *_parts("8", 0.0), task="y")
    ]
    (point,) = curve(items, [1], Majority())
    assert point.accuracy.mean == point.ceiling.mean == 0.5


def _parts(answer: str, value: float) -> tuple[list[Completion], list[Score]]:
    one = item("", [(answer, value)])
    return list(one.completions), list(one.scores)


def test_items_with_an_ungraded_sample_are_left_out_and_counted() -> None:
    items = [item("a", [("7", 1.0), ("7", 1.0)]), item("b", [("1", None), ("2", 0.0)])]
    (point,) = curve(items, [2], Majority())
    assert (point.accuracy.mean, point.accuracy.n, point.unscored) == (1.0, 1, 1)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(EvaluationError, match="between 1 and the 2 samples"):
        curve([item("a", [("7", 1.0), ("7", 1.0)])], [4], Majority())
    with pytest.raises(EvaluationError, match="different numbers"):
        curve([item("a", [("7", 1.0)]), item("b", [("7", 1.0), ("7", 1.0)])], [1], Majority())
    with pytest.raises(EvaluationError, match="no item has grades"):
        curve([item("a", [("7", None)])], [1], Majority())
