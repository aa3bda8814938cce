"""Order and layout of rows."""

from __future__ import annotations

from collections import Counter

from burnish.training.batch import micro_batches, row_order, steps_of


def test_every_epoch_is_a_fresh_shuffle_of_all_rows() -> None:
    order = list(row_order(10, 25, seed=3))
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10] != order[10:20] and len(set(order[20:])) == 5
    assert list(row_order(10, 7, seed=3)) == order[:7]
    assert list(row_order(10, 25, seed=4)) != order


def test_steps_take_the_rows_in_turn_and_the_last_may_be_smaller() -> None:
    steps = steps_of(10, 4, steps=3, needed=10, seed=0)
    assert [len(step) for step in steps] == [4, 4, 2]
    assert Counter(number for step in steps for number in step) == Counter(range(10))


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
