"""Merge methods by hand."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from burnish.merging.methods.linear import Linear
from burnish.merging.methods.slerp import Slerp

A, B = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])


def test_linear() -> None:
    # (1 x A + 3 x B) / 4 = (0.75, 1.5); without normalizing (3, 6)
    assert Linear(weights=[1, 3]).merge([A, B], None).tolist() == [[0.75, 1.5]]
    assert Linear(weights=[1, 3], normalize=False).merge([A, B], None).tolist() == [[3.0, 6.0]]
    assert Linear().merge([A, B, B], None).tolist() == [[1.0, pytest.approx(4 / 3)]]


def test_linear_leaves_its_inputs_alone() -> None:
    before = A.clone()
    Linear().merge([A, B], None)
    assert torch.equal(A, before)


def test_linear_settings_are_checked() -> None:
    assert Linear(weights=[1, 2]).problem(2) is None
    assert Linear(weights=[1, 2]).problem(3) == "2 weights for 3 models"
    assert "sum to zero" in str(Linear(weights=[1, -1]).problem(2))


def test_slerp_of_a_right_angle() -> None:
    # the angle is 90 degrees: at t = 1/2 both shares are sin 45 / sin 90 = 1 / sqrt 2
    assert torch.allclose(Slerp(t=0.5).merge([A, B], None), torch.tensor([[3 / sqrt(2), 2 / sqrt(2)]]))
    # at t = 1/3 they are sin 60 = sqrt 3 / 2 and sin 30 = 1/2
    assert torch.allclose(Slerp(t=1 / 3).merge([A, B], None), torch.tensor([[3 * sqrt(3) / 2, 1.0]]))


def test_slerp_ends_at_its_models_and_keeps_the_norm() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(4, 5), torch.randn(4, 5)
    y = y / y.norm() * x.norm()
    assert torch.allclose(Slerp(t=0).merge([x, y], None), x) and torch.allclose(Slerp(t=1).merge([x, y], None), y)
    assert Slerp(t=0.5).merge([x, y], None).norm().item() == pytest.approx(x.norm().item(), rel=1e-5)


def test_slerp_of_parallel_or_empty_vectors_is_a_line() -> None:
    assert torch.allclose(Slerp(t=0.25).merge([A, 2 * A], None), 1.25 * A)
    assert torch.allclose(Slerp(t=0.5).merge([torch.zeros(2), torch.ones(2)], None), torch.full((2,), 0.5))


def test_slerp_goes_between_two() -> None:
    assert "two models, and 3" in str(Slerp().problem(3))
