"""Order and layout of rows."""

from __future__ import annotations

from collections import Counter

import torch

from burnish.models.chat import Rendered
from burnish.training.batch import micro_batches, pad, row_order, steps_of


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


def test_micro_batches_keep_the_padded_size_within_the_budget() -> None:
    # longest first: 9 alone (18 > 12), then 4 and 3 (2 x 4 = 8; 3 x 4 = 12 fits too)
    groups = micro_batches([3, 9, 4, 2], budget=12)
    assert groups == [[1], [2, 0, 3]]
    assert micro_batches([50], budget=12) == [[0]]


def test_padding_goes_right_and_weights_are_row_major() -> None:
    rows = [Rendered((5, 6, 7), (0.0, 1.0, 0.5), ()), Rendered((8, 9), (0.0, 1.0), ())]
    batch = pad(rows, "cpu")
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.targets.tolist() == [[False, True, True], [False, True, False]]
    assert batch.weights.tolist() == [1.0, 0.5, 1.0] and batch.owners.tolist() == [0, 0, 1]
    assert batch.ids.dtype == torch.long
