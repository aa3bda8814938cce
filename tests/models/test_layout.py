"""Rows as trees: what is shared stands once, and every row is found again."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from burnish.models.chat import Rendered
from burnish.models.layout import Segment, common, lay_out, plant


@pytest.mark.parametrize(
    ("left", "right", "size"),
    [((), (), 0), ((1,), (2,), 0), ((1, 2, 3), (1, 2, 4), 2), ((1, 2), (1, 2, 3), 2), ((1, 2, 3), (1, 2, 3), 3)],
)
def test_common_beginnings(left: tuple[int, ...], right: tuple[int, ...], size: int) -> None:
    assert common(left, right) == common(right, left) == size


def test_a_prompt_with_two_answers() -> None:
    prompt = tuple(range(20))
    tree = plant([(*prompt, 30, 31), (*prompt, 40)])
    # 20 tokens shared, then a branch of 2 and one of 1, both at depth 20
    assert tree.segments == [Segment(0, 20, 0, -1), Segment(20, 22, 20, 0), Segment(22, 23, 20, 0)]
    assert tree.ids == [*prompt, 30, 31, 40]
    assert tree.places(1).tolist() == [*range(20), 22]


def test_short_beginnings_are_not_shared() -> None:
    tree = plant([(1, 2, 3), (1, 2, 4)])
    assert [segment.parent for segment in tree.segments] == [-1, -1] and len(tree.ids) == 6


def test_any_rows_are_found_again_and_share_all_they_can() -> None:
    draw = random.Random(0)
    for _ in range(200):
        rows = [()] * draw.randint(1, 8)
        for number in range(len(rows)):
            before = rows[draw.randrange(max(1, number))]
            kept = before[: draw.randint(0, len(before))]
            rows[number] = kept + tuple(draw.randrange(3) for _ in range(draw.randint(1, 12)))
        tree = plant(rows, least=1)
        for number, row in enumerate(rows):
            assert tuple(tree.ids[place] for place in tree.places(number)) == row
            assert [tree.segments[n].depth for n in tree.paths[number]] == [
                0, *itertools.accumulate(tree.segments[n].stop - tree.segments[n].start for n in tree.paths[number])
            ][:-1]  # fmt: skip
        # sharing everything, a tree holds each distinct beginning once
        beginnings = {row[:size] for row in rows for size in range(1, len(row) + 1)}
        assert len(tree.ids) == len(beginnings)


def test_a_shared_learned_token_is_predicted_once_and_counts_for_each_row() -> None:
    prompt = tuple(range(100, 120))
    learned = (0.0,) * 19 + (1.0, 0.5)
    rows = [Rendered((*prompt, 7), learned, ()), Rendered((*prompt, 8), learned, ())]
    batch = lay_out(rows, "cpu", trees=True)
    assert batch.ids.tolist() == [[*prompt, 7, 8]]
    assert batch.positions.tolist() == [[*range(20), 20, 20]]
    # token 119 is predicted once from place 18; 7 and 8 both from place 19, the end of the prompt
    assert batch.sources.tolist() == [18, 19, 19] and batch.targets.tolist() == [119, 7, 8]
    assert batch.picks.tolist() == [0, 1, 0, 2] and batch.owners.tolist() == [0, 0, 1, 1]
    assert batch.weights.tolist() == [1.0, 0.5, 1.0, 0.5]
    assert batch.segments is not None and batch.segments.tolist() == [[0, 20, 0, -1], [20, 21, 20, 0], [21, 22, 20, 0]]


def test_padding_goes_right() -> None:
    rows = [Rendered((5, 6, 7), (0.0, 1.0, 0.5), ()), Rendered((8, 9), (0.0, 1.0), ())]
    batch = lay_out(rows, "cpu", trees=False)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.mask is not None and batch.mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.sources.tolist() == [0, 1, 3] and batch.targets.tolist() == [6, 7, 9]
    assert batch.weights.tolist() == [1.0, 0.5, 1.0] and batch.owners.tolist() == [0, 0, 1]
    assert batch.ids.dtype == torch.long
