"""Master weights: fp32 values of which the model holds the rounded ones.

bfloat16 has 8 bits of significand: an update below 1/256 of a weight would round to nothing, and at learning rates of
1e-5 nearly all of them are. An fp32 number is a bfloat16 number and 16 bits more, so the model's weight and those bits
are the master (Split-SGD, arXiv:2005.04680): 2 bytes a parameter beside the model instead of 4, and not a bit lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Masters:
    """The fp32 values of a model's weights. Of those that are split in two, `tensors` have values only while open."""

    def __init__(self, held: Sequence[Tensor]) -> None:
        """From the tensors that the model computes with, as far as this process holds them; they are written to."""
        self._held = held
        self._low = [torch.zeros_like(mine, dtype=torch.int16) if mine.dtype == torch.bfloat16 else None
                     for mine in held]  # fmt: skip
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

    @contextmanager
    @torch.no_grad()  # type: ignore[untyped-decorator]
    def opened(self, numbers: Sequence[int], space: Tensor) -> Iterator[None]:
        """Give these masters their values, in `space`; afterwards what they have become is rounded into the model."""
        at = 0
        for number in numbers:
            mine, low, master = self._held[number], self._low[number], self.tensors[number]
            if low is not None:
                master.data = space[at : at + mine.numel()].view(mine.shape)
                at += mine.numel()
                _join(mine, low, master)
        yield
        for number in numbers:
            mine, low, master = self._held[number], self._low[number], self.tensors[number]
            if low is not None:
                _split(master, mine, low)
                master.data = _nothing(mine)
            elif mine is not master:
                mine.copy_(master)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def value(self, number: int) -> Tensor:
        """A master's value, fp32."""
        mine, low = self._held[number], self._low[number]
        if low is None:
            return self.tensors[number].detach()
        return _join(mine, low, torch.empty_like(mine, dtype=torch.float32))

    def parts(self, number: int) -> list[Tensor]:
        """What a master is kept as, uncopied: the model's weight and the bits below it, or the master itself.

        The bits go by the name of bfloat16, for processes do not send each other 16-bit integers.
        """
        mine, low = self._held[number], self._low[number]
        return [self.tensors[number].detach()] if low is None else [mine.detach(), low.view(torch.bfloat16)]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def take(self, number: int, parts: Sequence[Tensor]) -> None:
        """Set a master from what `parts` gave, and the model's rounded copy of it."""
        for own, given in zip(self.parts(number), parts, strict=True):
            own.copy_(given)
        mine, master = self._held[number], self.tensors[number]
        if self._low[number] is None and mine is not master:
            mine.copy_(master)


def _nothing(like: Tensor) -> Tensor:
    """A tensor of a shape without memory for its values."""
    return torch.zeros((), dtype=torch.float32, device=like.device).expand(like.shape)


def _join(high: Tensor, low: Tensor, out: Tensor) -> Tensor:
    """The fp32 numbers that `_split` took apart."""
    bits = out.view(torch.int32)
    bits.copy_(high.view(torch.int16)).bitwise_left_shift_(16).add_(low)
    return out


def _split(wide: Tensor, high: Tensor, low: Tensor) -> None:
    """Take fp32 numbers apart: the nearest bfloat16 (of two equally near the larger in size) and the bits below it, as
    a number with a sign. Overwrites `wide`."""
    bits = wide.view(torch.int32)
    low.copy_(bits)  # the lower half of the bits
    high.view(torch.int16).copy_(bits.sub_(low).bitwise_right_shift_(16))
