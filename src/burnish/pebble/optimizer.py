"""The optimizer of pretraining: Muon for the matrices of the layers, Adam for embeddings and norms.

Source: Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024
(https://kellerjordan.github.io/posts/muon), momentum orthogonalized by five Newton-Schulz steps; Adam:
arXiv:1412.6980. Differs: matrices of one shape are orthogonalized together, which two CPU cores like better.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, from the source above."""


class MuonAdam:
    """Updates named fp32 parameters in place. All of its state is in `state`, named tensors, so it can be saved."""

    def __init__(self, parameters: dict[str, Tensor], muon_rate: float, adam_rate: float, decay: float) -> None:
        """Rates per step at schedule 1; `decay`: weight decay of the matrices, relative to their rate."""
        self.parameters = parameters
        self.muon_rate, self.adam_rate, self.decay = muon_rate, adam_rate, decay
        self.momentum, self.betas = 0.95, (0.9, 0.95)
        self.state: dict[str, Tensor] = {}
        self.groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name, value in parameters.items():
            self.state[f"first.{name}"] = torch.zeros_like(value)
            if value.ndim == 2 and "embed" not in name:
                self.groups[tuple(value.shape)].append(name)
            else:
                self.state[f"second.{name}"] = torch.zeros_like(value)

    def step(self, gradients: dict[str, Tensor], schedule: float, count: int) -> None:
        """One update. `schedule` scales both rates, in [0, 1]; `count` is the number of this step, from 1."""
        for names in self.groups.values():
            self._muon(names, gradients, self.muon_rate * schedule)
        for name in self.parameters:
            if f"second.{name}" in self.state:
                self._adam(name, gradients[name], self.adam_rate * schedule, count)

    def _muon(self, names: list[str], gradients: dict[str, Tensor], rate: float) -> None:
        updates = []
        for name in names:
            first = self.state[f"first.{name}"].lerp_(gradients[name], 1 - self.momentum)
            updates.append(gradients[name].lerp(first, self.momentum))
        directions = orthogonalize(torch.stack(updates))  # (n, rows, columns)
        rows, columns = directions.shape[1:]
        scale = rate * max(1.0, rows / columns) ** 0.5
        for name, direction in zip(names, directions, strict=True):
            self.parameters[name].mul_(1 - rate * self.decay).sub_(direction, alpha=scale)

    def _adam(self, name: str, gradient: Tensor, rate: float, count: int) -> None:
        slow, fast = self.betas
        first = self.state[f"first.{name}"].lerp_(gradient, 1 - slow)
        second = self.state[f"second.{name}"].lerp_(gradient.square(), 1 - fast)
        spread = (second / (1 - fast**count)).sqrt_().add_(1e-10)
        self.parameters[name].addcdiv_(first, spread, value=-rate / (1 - slow**count))


def orthogonalize(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, approximately: singular values end between about 0.7 and 1.2.

    `matrices`: (n, rows, columns); returns fp32 of the same shape.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()
