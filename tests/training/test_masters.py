"""Master weights: fp32 to the last bit from a bfloat16 weight and the bits below it."""

from __future__ import annotations

import torch

from burnish.training.masters import Masters, _join, _split


def halves(wide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    high = torch.empty(wide.shape, dtype=torch.bfloat16)
    low = torch.empty(wide.shape, dtype=torch.int16)
    _split(wide.clone(), [high], low)
    return high, low


def test_no_bit_is_lost() -> None:
    draw = torch.Generator().manual_seed(0)
    # all patterns of bits but those of infinity and of what is no number
    bits = torch.randint(-(2**31), 2**31, (200_000,), generator=draw, dtype=torch.int64).to(torch.int32)
    wide = bits.view(torch.float32)
    wide = wide[wide.abs() < torch.finfo(torch.bfloat16).max]
    edges = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.0 + 2**-8, 1.0 + 2**-9, -(1.0 + 2**-8), 65504.0])
    for values in (wide, edges):
        high, low = halves(values)
        assert torch.equal(_join([high], low, torch.empty_like(values))[0].view(torch.int32), values.view(torch.int32))


def test_the_model_holds_the_nearest_bfloat16() -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    high, low = halves(values)
    values, high = values[low != -(2**15)], high[low != -(2**15)]  # not between two
    assert torch.equal(high, values.to(torch.bfloat16))
    # 1 + 2^-8 lies between 1 and 1 + 2^-7: the larger; torch takes the even one
    assert halves(torch.tensor([1 + 2**-8, -(1 + 2**-8)]))[0].tolist() == [1 + 2**-7, -(1 + 2**-7)]


def test_every_dtype_gives_its_values_and_takes_new_ones() -> None:
    held = [torch.ones(2, 3, dtype=dtype) for dtype in (torch.bfloat16, torch.float16, torch.float32)]
    masters = Masters(held)
    assert [tensor.shape for tensor in masters.tensors] == [(2, 3)] * 3
    with masters.opened([0, 1, 2], masters.space([[0, 1, 2]])):
        for tensor in masters.tensors:
            tensor.add_(0.001)
    for number, mine in enumerate(held):
        assert torch.equal(masters.value(number), torch.full((2, 3), 1.001))
        assert torch.equal(mine, torch.full((2, 3), 1.001).to(mine.dtype))
        saved = [part.clone() for part in masters.parts(number)]
        with masters.opened([number], masters.space([[number]])):
            masters.tensors[number].fill_(7.0)
        masters.take(number, saved)
        assert torch.equal(masters.value(number), torch.full((2, 3), 1.001))
        assert torch.equal(mine, torch.full((2, 3), 1.001).to(mine.dtype))


def test_a_bfloat16_weight_costs_two_bytes_more() -> None:
    masters = Masters([torch.ones(1000, 10, dtype=torch.bfloat16)])
    assert masters._bits.element_size() * masters._bits.numel() == 20_000
    assert masters.tensors[0].untyped_storage().nbytes() == 4  # nothing while it is closed
