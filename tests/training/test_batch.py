"""Order and layout of rows."""

from __future__ import annotations

from collections import Counter

from burnish.models.chat import Rendered, Turn
from burnish.training.batch import by_prompt, micro_batches, plan_of, row_order
from burnish.training.optim import Optimization

TEN = [[row] for row in range(10)]


def test_every_epoch_is_a_fresh_shuffle_of_all_rows() -> None:
    order = list(row_order(TEN, 25, seed=3))
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10] != order[10:20] and len(set(order[20:])) == 5
    assert list(row_order(TEN, 7, seed=3)) == order[:7]
    assert list(row_order(TEN, 25, seed=4)) != order


def test_steps_take_the_rows_in_turn_and_the_last_may_be_smaller() -> None:
    units = [[Rendered((row,), (1.0,), ())] for row in range(10)]
    steps = plan_of(units, Optimization(batch_size=4), seed=0)
    assert [len(step) for step in steps] == [4, 4, 2]
    assert Counter(number for step in steps for number in step) == Counter(range(10))
    assert plan_of(units, Optimization(batch_size=4, max_steps=2), seed=0) == steps[:2]
    assert [len(step) for step in plan_of(units, Optimization(batch_size=4, epochs=0.5), seed=0)] == [4, 1]
    assert sum(map(len, plan_of(units, Optimization(batch_size=4, epochs=2), seed=0))) == 20


def test_rows_of_a_group_follow_each_other_in_every_epoch() -> None:
    groups = [[0, 3], [1], [2, 4]]
    order = list(row_order(groups, 10, seed=1))
    for epoch in (order[:5], order[5:]):
        assert sorted(epoch) == [0, 1, 2, 3, 4]
        assert epoch.index(3) == epoch.index(0) + 1 and epoch.index(4) == epoch.index(2) + 1
    assert list(row_order(groups, 7, seed=0, shuffle=False)) == [0, 3, 1, 2, 4, 0, 3]


def test_rows_with_one_prompt_or_a_longer_one_that_begins_with_it_are_a_group() -> None:
    def asked(*prompt: int) -> Rendered:
        return Rendered((*prompt, 9, 9), (0.0,) * len(prompt) + (1.0, 1.0), (Turn(1, len(prompt), len(prompt) + 2),))

    rows = [asked(1, 2), asked(3, 4), asked(1, 2, 5, 6), asked(1, 3), asked(1, 2), asked(3, 4, 1)]
    assert by_prompt(rows) == [[0, 4, 2], [1, 5], [3]]


def row(*parts: range) -> tuple[int, ...]:
    return tuple(token for part in parts for token in part)


def test_padded_micro_batches_keep_the_padded_size_within_the_budget() -> None:
    # longest first: 9 alone (18 > 12), then 4 and 3 (2 x 4 = 8; 3 x 4 = 12 fits too)
    units = [[row(range(size))] for size in (3, 9, 4, 2)]
    assert micro_batches(units, 12, trees=False) == [[1], [2, 0, 3]]
    assert micro_batches([[row(range(50))]], 12, trees=False) == [[0]]
    # a pair is two rows of the longer one's width: 2 x 6 = 12
    assert micro_batches([[row(range(6)), row(range(2))], [row(range(3)), row(range(3))]], 12, trees=False) == [
        [0],
        [1],
    ]


def test_trees_put_rows_that_begin_alike_together_and_count_what_they_share_once() -> None:
    prompt = range(100, 120)
    units = [[row(prompt, range(5))], [row(range(30))], [row(prompt, range(7, 12))]]
    # 20 + 5 + 5 = 30 computed tokens for the first and the last, 30 for the other
    assert micro_batches(units, 30, trees=True) == [[1], [0, 2]]
    assert micro_batches(units, 60, trees=True) == [[1, 0, 2]]
    assert micro_batches(units, 29, trees=True) == [[1], [0], [2]]
    # a pair's second row shares the prompt with the first: 20 + 5 + 5
    assert micro_batches([[units[0][0], units[2][0]], units[1]], 30, trees=True) == [[1], [0]]
