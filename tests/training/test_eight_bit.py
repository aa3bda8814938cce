"""AdamW in two bytes a parameter: the path of AdamW, a quarter of its memory, and unbiased codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.training.eight_bit import BLOCK, FIRST, SECOND, AdamW8bit, _read, _write

GROUP: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}


def path(
    make: Callable[[Tensor], torch.optim.Optimizer], steps: int, shape: tuple[int, ...] = (64, 128)
) -> list[float]:
    """Distances to the minimum of a badly scaled quadratic bowl with noisy slopes."""
    draw = torch.Generator().manual_seed(0)
    scale = torch.logspace(-3, 1, shape[1])
    weight = torch.randn(shape, generator=draw)
    optimizer = make(weight)
    found = []
    for _ in range(steps):
        weight.grad = scale * (weight + 0.1 * torch.randn(shape, generator=draw))
        optimizer.step()
        found.append(float(weight.norm()))
    return found


def test_it_takes_adamws_path() -> None:
    plain = path(lambda weight: torch.optim.AdamW([{"params": [weight], **GROUP}], betas=(0.9, 0.95)), 300)
    ours = path(lambda weight: AdamW8bit([{"params": [weight], **GROUP}], (0.9, 0.95)), 300)
    assert plain[-1] < 0.2 * plain[0]
    assert ours == pytest.approx(plain, rel=0.05)


def test_small_tensors_are_updated_exactly() -> None:
    plain = path(lambda weight: torch.optim.AdamW([{"params": [weight], **GROUP}], betas=(0.9, 0.95)), 50, (4, 16))
    ours = path(lambda weight: AdamW8bit([{"params": [weight], **GROUP}], (0.9, 0.95)), 50, (4, 16))
    assert ours == pytest.approx(plain, rel=1e-5)


def test_moments_take_two_bytes_a_parameter() -> None:
    weight = torch.randn(1000, 300)
    optimizer = AdamW8bit([{"params": [weight], **GROUP}], (0.9, 0.95))
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    held = [value for value in optimizer.state[weight].values() if isinstance(value, Tensor)]
    assert sum(value.numel() * value.element_size() for value in held) < 2.05 * weight.numel()


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_codes_keep_the_mean(name: str) -> None:
    """The same values, rounded by much noise, are themselves on average; zero stays zero."""
    values = torch.linspace(0, 1, BLOCK).pow(2) * 1e-3
    if name == FIRST:
        values[::2] *= -1
    draw = torch.Generator().manual_seed(0)
    kind = torch.int8 if name == FIRST else torch.uint8
    state = {name: torch.zeros(1, BLOCK, dtype=kind), f"{name}_scale": torch.zeros(1, 1)}
    total = torch.zeros(BLOCK)
    for _ in range(2000):
        _write(state, name, 0, values, torch.rand(1, BLOCK, generator=draw))
        total += _read(state, name, 0, BLOCK)
    assert torch.allclose(total / 2000, values, rtol=0.02, atol=1e-7)
