"""The gradient of a linear layer's weights equals the product that it is."""

from __future__ import annotations

import pytest
import torch

from burnish import hardware
from burnish.models import native
from burnish.models.native.linear import fits, weight_gradient

UNITS = hardware.has_matrix_units() and native.multiplies(torch.bfloat16)


@pytest.mark.skipif(not UNITS, reason="a CPU without matrix units, or no kernels")
@pytest.mark.parametrize(("rows", "outs", "ins"), [(1, 2, 3), (333, 70, 65), (512, 640, 64), (1100, 33, 192)])
def test_it_equals_the_product(rows: int, outs: int, ins: int) -> None:
    draw = torch.Generator().manual_seed(0)
    grad, x = torch.randn(rows, outs, generator=draw).bfloat16(), torch.randn(rows, ins, generator=draw).bfloat16()
    expected = grad.double().T @ x.double()
    assert fits(grad, x)
    found = weight_gradient(grad, x)
    assert torch.allclose(found.double(), expected, rtol=2**-8, atol=1e-4 * rows**0.5)
    place = torch.full((outs + 2, ins), 7.0).bfloat16()
    weight_gradient(grad, x, out=place[1:-1])
    assert torch.equal(place[1:-1], found) and bool((place[0] == 7).all()) and bool((place[-1] == 7).all())


def test_other_tensors_are_torchs() -> None:
    grad, x = torch.ones(3, 2), torch.arange(6.0).view(3, 2)
    assert not fits(grad, x)
    assert weight_gradient(grad, x).tolist() == [[6.0, 9.0], [6.0, 9.0]]  # 0 + 2 + 4, 1 + 3 + 5
    assert weight_gradient(grad, x, out=torch.empty(2, 2)).tolist() == [[6.0, 9.0], [6.0, 9.0]]


def test_no_rows_give_no_gradient() -> None:
    nothing = torch.zeros(0, 4).bfloat16()
    assert torch.equal(weight_gradient(nothing, nothing), torch.zeros(4, 4).bfloat16())
