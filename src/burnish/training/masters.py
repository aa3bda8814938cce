"""Master weights: fp32 values of which the model holds the rounded ones.

bfloat16 has 8 bits of significand: an update below 1/256 of a weight would round to nothing, and at learning rates of
1e-5 nearly all of them are. An fp32 number is a bfloat16 number and 16 bits more, so the model's weight and those bits
are the master (Split-SGD, arXiv:2005.04680): 2 bytes a parameter beside the model instead of 4, and not a bit lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor

PIECE = 1 << 18
"""Numbers that a CPU treats at once."""


class Masters:
    """The fp32 values of a model's weights. Of those that are split in two, `tensors` have values only while open."""

    def __init__(self, held: Sequence[Tensor]) -> None:
        """From the tensors that the model computes with, as far as this process holds them; they are written to."""
        self._held = held
        sizes = [mine.numel() if mine.dtype == torch.bfloat16 else 0 for mine in held]
        self._starts = [0, *accumulate(sizes)]
        self._bits = torch.zeros(self._starts[-1], dtype=torch.int16, device=held[0].device if held else None)
        """The bits below all bfloat16 weights, one after another."""
        self.tensors = [self._start(mine) for mine in held]
        """One for each weight, the same objects for good: an optimiser knows its moments by them."""

    @staticmethod
    def _start(mine: Tensor) -> Tensor:
        if mine.dtype == torch.bfloat16:
            return _nothing(mine)
        return mine if mine.dtype == torch.float32 else mine.detach().float().clone()

    def space(self, parts: Sequence[Sequence[int]]) -> Tensor:
        """Memory for the fp32 values or gradients of the largest of some parts, to be used for one after another."""
        return torch.empty(max(sum(self._held[number].numel() for number in part) for part in parts),
                           dtype=torch.float32, device=self._held[0].device)  # fmt: skip

    def _is_split(self, number: int) -> bool:
        return bool(self._held[number].dtype == torch.bfloat16)

    def _below(self, first: int, last: int) -> Tensor:
        """The bits below weights first .. last, flat."""
        return self._bits[self._starts[first] : self._starts[last + 1]]

    @contextmanager
    @torch.no_grad()  # type: ignore[untyped-decorator]
    def opened(self, numbers: Sequence[int], space: Tensor) -> Iterator[None]:
        """Give these masters, whose numbers follow each other, their values, in `space`; afterwards what they have
        become is rounded into the model."""
        split = [number for number in numbers if self._is_split(number)]
        highs = [self._held[number] for number in split]
        low = self._below(numbers[0], numbers[-1])
        wide = space[: low.numel()]
        for number, values in zip(split, _join(highs, low, wide), strict=True):
            self.tensors[number].data = values
        yield
        _split(wide, highs, low)
        for number in numbers:
            mine, master = self._held[number], self.tensors[number]
            if self._is_split(number):
                master.data = _nothing(mine)
            elif mine is not master:
                mine.copy_(master)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def value(self, number: int) -> Tensor:
        """A master's value, fp32."""
        if not self._is_split(number):
            return self.tensors[number].detach()
        low = self._below(number, number)
        return _join([self._held[number]], low, torch.empty_like(low, dtype=torch.float32))[0]

    def parts(self, number: int) -> list[Tensor]:
        """What a master is kept as, uncopied: the model's weight and the bits below it, or the master itself.

        The bits go by the name of bfloat16, for processes do not send each other 16-bit integers.
        """
        if not self._is_split(number):
            return [self.tensors[number].detach()]
        mine = self._held[number].detach()
        return [mine, self._below(number, number).view(mine.shape).view(torch.bfloat16)]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def take(self, number: int, parts: Sequence[Tensor]) -> None:
        """Set a master from what `parts` gave, and the model's rounded copy of it."""
        for own, given in zip(self.parts(number), parts, strict=True):
            own.copy_(given)
        mine, master = self._held[number], self.tensors[number]
        if not self._is_split(number) and mine is not master:
            mine.copy_(master)


def _nothing(like: Tensor) -> Tensor:
    """A tensor of a shape without memory for its values."""
    return torch.zeros((), dtype=torch.float32, device=like.device).expand(like.shape)


def _join(highs: Sequence[Tensor], low: Tensor, wide: Tensor) -> list[Tensor]:
    """The fp32 numbers that `_split` took apart, as views of `wide`, which has the length of `low`."""
    views = [values.view(high.shape) for values, high in zip(wide.split([high.numel() for high in highs]), highs,
                                                             strict=True)]  # fmt: skip
    _copy([values.view(torch.int32) for values in views], [high.view(torch.int16) for high in highs])
    for bits, below in _pieces(wide.view(torch.int32), low):
        bits.bitwise_left_shift_(16).add_(below)
    return views


def _split(wide: Tensor, highs: Sequence[Tensor], low: Tensor) -> None:
    """Take fp32 numbers apart: the nearest bfloat16 (of two equally near the larger in size) and the bits below it, as
    a number with a sign. Overwrites `wide`."""
    for bits, below in _pieces(wide.view(torch.int32), low):
        below.copy_(bits)  # the lower half of the bits
        bits.sub_(below).bitwise_right_shift_(16)
    numbers = wide.view(torch.int32).split([high.numel() for high in highs])
    _copy([high.view(torch.int16) for high in highs],
          [bits.view(high.shape) for bits, high in zip(numbers, highs, strict=True)])  # fmt: skip


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    """Copies that a GPU does with a few kernels."""
    if to:
        torch._foreach_copy_(to, source)


def _pieces(*flat: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Flat tensors in pieces: on a CPU such as its caches hold between one operation and the next."""
    size = PIECE if flat[0].device.type == "cpu" else max(1, flat[0].numel())
    return zip(*(one.split(size) for one in flat), strict=True)
