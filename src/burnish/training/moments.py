"""AdamW's moments in bfloat16: half the memory of fp32, and half of what an update reads and writes of them.

They are rounded up or down at random, so that the mean is kept. To the nearest, a second moment could not fall where
beta_2 is 0.999: what it loses in a step is less than half a step of bfloat16. The noise is drawn from the number of the
update, so that a run repeats to the same bits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from burnish.rng import seed_for

NAMES = ("exp_avg", "exp_avg_sq")
"""The first and the second moment, as torch calls them."""
PERIOD = 1 << 12
"""Values after which the noise comes again, few enough to stay in a CPU's caches."""


class Moments:
    """Of some weights, one after another in memory. An optimiser of fp32 tensors has them in its states; to compute
    with them they are `opened`."""

    def __init__(self, weights: Sequence[Tensor], held: Collection[int]) -> None:
        """Zeros for those of the weights whose numbers are `held`."""
        self._shapes, self._numbers = [weight.shape for weight in weights], held
        self._starts = [0, *accumulate(one.numel() if number in held else 0 for number, one in enumerate(weights))]
        device = weights[0].device if weights else None
        self._flat = [torch.zeros(self._starts[-1], dtype=torch.bfloat16, device=device) for _ in NAMES]

    def of(self, number: int) -> dict[str, Tensor]:
        """The moments of a weight, uncopied; none if they are not held here."""
        start, stop = self._starts[number : number + 2]
        return {name: flat[start:stop].view(self._shapes[number])
                for name, flat in zip(NAMES, self._flat, strict=True) if number in self._numbers}  # fmt: skip

    def shift(self, number: int) -> int:
        """Where in a period of the noise a weight's first value is."""
        return self._starts[number] % PERIOD

    def spaces(self, like: Tensor) -> list[Tensor]:
        """Memory for both fp32 moments of a part whose fp32 values take as much as `like`."""
        return [torch.empty_like(like) for _ in NAMES] if self._numbers else []

    @contextmanager
    @torch.no_grad()  # type: ignore[untyped-decorator]
    def opened(self, numbers: Sequence[int], states: Sequence[dict[str, Tensor]], spaces: Sequence[Tensor], update: int
               ) -> Iterator[None]:  # fmt: skip
        """Give the states of weights, whose numbers follow each other, fp32 moments; afterwards these are rounded."""
        first, last = self._starts[numbers[0]], self._starts[numbers[-1] + 1]
        held = [flat[first:last] for flat in self._flat]
        wide = [space[: last - first] for space in spaces]
        for name, narrow, values in zip(NAMES, held, wide, strict=False):
            values.copy_(narrow)
            for number in numbers:
                start, stop = (place - first for place in self._starts[number : number + 2])
                if number in self._numbers:
                    states[number][name] = values[start:stop].view(self._shapes[number])
        yield
        noise = noise_of(update)[:, self.shift(numbers[0]) :]
        for mine, narrow, values in zip(noise, held, wide, strict=False):
            _round(values, narrow, mine[:PERIOD].to(values.device))
        for number in numbers:
            states[number].update(self.of(number))


@lru_cache(maxsize=2)
def noise_of(update: int) -> Tensor:
    """What is added to the lower halves of fp32 numbers, for each moment, before they are cut off: 2 x two periods,
    int32, so that a period from anywhere in the first lies in one piece. Not to be written to."""
    draw = torch.Generator().manual_seed(seed_for(0, "moments", update))
    made = torch.randint(0, 1 << 16, (len(NAMES), PERIOD), generator=draw, dtype=torch.int32)
    return made.repeat(1, 2)


def _round(wide: Tensor, narrow: Tensor, noise: Tensor) -> None:
    """Write fp32 numbers as the bfloat16 numbers next to them, one or the other as the noise has it; overwrites
    `wide`."""
    bits = wide.view(torch.int32)
    whole = len(bits) // PERIOD * PERIOD
    bits[:whole].view(-1, PERIOD).add_(noise)
    bits[whole:].add_(noise[: len(bits) - whole])
    narrow.view(torch.int16).copy_(bits.bitwise_right_shift_(16))
