"""Schedules by hand, and AdamW over master weights against torch's own."""

from __future__ import annotations

import pytest
import torch

from burnish.training.optim import MasterAdamW, Optimization


def test_steps() -> None:
    assert Optimization(batch_size=4, epochs=2).steps(10) == 5
    assert Optimization(batch_size=4, epochs=0.5).steps(10) == 2
    assert Optimization(batch_size=4, epochs=2, max_steps=3).steps(10) == 3
    assert Optimization(batch_size=64).steps(1) == 1


def test_the_rate_rises_then_falls() -> None:
    linear = Optimization(learning_rate=1.0, schedule="linear", warmup=0.2)
    # 10 steps, 2 of warm-up: 1/2, 1, then 1 - k/8
    assert [linear.rate(step, 10) for step in range(10)] == [0.5, 1.0] + [1 - k / 8 for k in range(8)]
    cosine = Optimization(learning_rate=1.0, warmup=0.0)
    assert cosine.rate(1, 11) == pytest.approx(1.0) and cosine.rate(6, 11) == pytest.approx(0.5)
    assert Optimization(learning_rate=1.0, schedule="constant").rate(99, 100) == 1.0


def test_fp32_parameters_follow_torchs_adamw() -> None:
    torch.manual_seed(0)
    ours, plain = (torch.nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    settings = Optimization(weight_decay=0.1, clip=1e9)
    optimizer = MasterAdamW([ours], settings)
    theirs = torch.optim.AdamW([plain], lr=1.0, betas=settings.betas, weight_decay=0.1)
    for step in range(5):
        gradient = torch.randn(3, 2)
        ours.grad, plain.grad = gradient.clone(), gradient.clone()
        theirs.param_groups[0]["lr"] = 0.01 * (step + 1)
        optimizer.step(0.01 * (step + 1))
        theirs.step()
    assert torch.allclose(ours, plain, atol=1e-6)


def test_gradients_are_clipped_to_the_norm() -> None:
    # |(3, 4)| = 5, clipped to 1: (0.6, 0.8). The first AdamW step has size `rate` whatever the gradient's size.
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = MasterAdamW([parameter], Optimization(clip=1.0))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert optimizer.step(0.01) == pytest.approx(5.0)
    assert torch.allclose(parameter, torch.tensor([-0.01, -0.01]), atol=1e-6)


def test_masters_collect_what_bfloat16_would_lose() -> None:
    # 0.001 is below half a bf16 step at 1.0 (2^-8 = 0.0039): alone it rounds away, ten of them do not.
    parameter = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))
    optimizer = MasterAdamW([parameter], Optimization())
    for _ in range(10):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step(0.001)
    assert torch.allclose(optimizer.masters[0], torch.full((2, 2), 0.99), atol=1e-4)
    assert parameter.flatten()[0].item() == pytest.approx(0.98828125)  # 0.99 rounded to bf16


def test_state_comes_back() -> None:
    def run(steps: int, state: dict[str, object] | None = None) -> MasterAdamW:
        optimizer = MasterAdamW([torch.nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))], Optimization())
        if state:
            optimizer.restore(state)
        for step in range(steps):
            optimizer.parameters[0].grad = torch.full_like(optimizer.parameters[0], step + 1.0)
            optimizer.step(0.01)
        return optimizer

    half = run(2)
    resumed, whole = run(2, half.state()), run(2)
    for step in range(2):
        whole.parameters[0].grad = torch.full_like(whole.parameters[0], step + 1.0)
        whole.step(0.01)
    assert torch.equal(resumed.masters[0], whole.masters[0])
    assert torch.equal(resumed.parameters[0], whole.parameters[0])
