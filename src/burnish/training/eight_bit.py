"""AdamW whose moments take one byte a parameter each instead of four.

Moments are held in blocks of 256 values, each scaled by its largest (arXiv:2110.02861). A code stands for the fourth
power of its share of the scale: most values of a block are far below its largest, and there the codes are dense. Codes
are rounded up or down at random so that the mean is kept; to the nearest, a second moment that decays by less than half
a step of its code would never decay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from burnish.training.moments import NAMES, PERIOD, noise_of

BLOCK = 256
"""Values that share a scale."""
SMALL = 4096
"""Tensors with fewer values keep their moments in fp32."""
PART = {"cpu": 1 << 16, "other": 1 << 24}
"""Values that are unpacked at once, few enough for a CPU's caches."""
FIRST, SECOND = NAMES
MOST = {FIRST: 127, SECOND: 255}
"""Largest code of each moment; the first has a sign."""
_KIND = {FIRST: torch.int8, SECOND: torch.uint8}


class AdamW8bit(torch.optim.Optimizer):  # type: ignore[misc]
    """AdamW (arXiv:1711.05101) on fp32 tensors."""

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], eps: float = 1e-8) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps, "lr": 0.0, "weight_decay": 0.0})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = {"step": 0, **_zeros(FIRST, parameter), **_zeros(SECOND, parameter)}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every tensor that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        state["step"] += 1
        values, grad = parameter.view(-1), parameter.grad.reshape(-1)
        size = PART.get(parameter.device.type, PART["other"])
        noise = _noise(state["step"], min(size, len(values)), parameter.device)
        for start in range(0, len(values), size):
            self._part(values[start : start + size], grad[start : start + size], start, state, group, noise)

    def _part(self, values: Tensor, grad: Tensor, start: int, state: dict[str, Any], group: dict[str, Any],
              noise: Tensor) -> None:  # fmt: skip
        (b1, b2), count = group["betas"], state["step"]
        first = _read(state, FIRST, start, len(values)).lerp_(grad, 1 - b1)
        second = _read(state, SECOND, start, len(values)).mul_(b2).addcmul_(grad, grad, value=1 - b2)
        _write(state, FIRST, start, first, noise[0])
        _write(state, SECOND, start, second, noise[1])
        values.mul_(1 - group["lr"] * group["weight_decay"])
        root = second.div_(1 - b2**count).sqrt_().add_(group["eps"])
        values.addcdiv_(first, root, value=-group["lr"] / (1 - b1**count))


def _noise(update: int, count: int, device: torch.device) -> Tensor:
    """For each moment numbers below 1 for so many values (2, blocks, BLOCK), the same ones for every tensor."""
    period = noise_of(update)[:, :PERIOD].to(device) * 2.0**-16
    return period.repeat(1, -(-count // PERIOD)).view(2, -1, BLOCK)


def _zeros(name: str, parameter: Tensor) -> dict[str, Tensor]:
    if parameter.numel() < SMALL:
        return {name: torch.zeros(parameter.numel(), device=parameter.device)}
    blocks = -(-parameter.numel() // BLOCK)
    return {
        name: torch.zeros(blocks, BLOCK, dtype=_KIND[name], device=parameter.device),
        f"{name}_scale": torch.zeros(blocks, 1, device=parameter.device),
    }


def _read(state: dict[str, Any], name: str, start: int, count: int) -> Tensor:
    """Values start .. start + count - 1 of a moment, as a new tensor."""
    if f"{name}_scale" not in state:
        return state[name].clone()  # small ones are one part
    blocks = slice(start // BLOCK, -(-(start + count) // BLOCK))
    codes = state[name][blocks].float().mul_(1 / MOST[name])
    values = codes.square().square_().mul_(state[f"{name}_scale"][blocks])
    values = values.copysign_(codes) if name == FIRST else values
    return values.view(-1)[:count]


def _write(state: dict[str, Any], name: str, start: int, values: Tensor, noise: Tensor) -> None:
    if f"{name}_scale" not in state:
        state[name].copy_(values)
        return
    most = MOST[name]
    padded = torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    size = padded.abs()
    scale = size.amax(1, keepdim=True)
    share = size.div_(scale.clamp_min(torch.finfo(torch.float32).tiny))
    below = share.sqrt().sqrt_().mul_(most).floor_().clamp_(max=most - 1)
    low, high = below.div(most).square_().square_(), below.add(1).div_(most).square_().square_()
    codes = below.add_(noise[: len(share)] * (high - low) < share - low)
    if name == SECOND:  # of zero under a first moment that is not, it would make a step of any size
        codes = codes.clamp_(min=1)
    blocks = slice(start // BLOCK, start // BLOCK + len(padded))
    state[name][blocks] = (codes.copysign_(padded) if name == FIRST else codes).to(state[name].dtype)
    state[f"{name}_scale"][blocks] = scale
