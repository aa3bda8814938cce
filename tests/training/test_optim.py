"""Schedules by hand, and AdamW over master weights against torch's own."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from burnish.models.native import adamw
from burnish.training import optim
from burnish.training.optim import MasterOptimizer, Optimization


def test_steps() -> None:
    assert Optimization(batch_size=4, epochs=2).steps(10) == 5
    assert Optimization(batch_size=4, epochs=0.5).steps(10) == 2
    assert Optimization(batch_size=4, epochs=2, max_steps=3).steps(10) == 3
    assert Optimization(batch_size=64).steps(1) == 1
    assert Optimization(batch_size=32, epochs=1.01).steps(32) == 1  # 32.32 rows are 32


def test_muon_is_for_the_layers_matrices() -> None:
    settings = Optimization(optimizer="muon", weight_decay=0.1)
    assert settings.group("layers.0.q_proj.weight", 2) == ("muon", 0.1, 1.0)
    assert settings.group("embed_tokens.weight", 2) == ("adamw", 0.1, 1.0)
    assert settings.group("layers.0.mlp.experts.gate_up_proj", 3) == ("adamw", 0.1, 1.0)
    for name, ndim in (("layers.0.mlp.experts.gate_up_proj_bias", 2), ("q_proj.bias", 1), ("norm.weight", 1)):
        assert settings.group(name, ndim) == ("adamw", 0.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", optim.MOMENT_BYTES)
def test_what_an_optimizer_holds(kind: str, dtype: torch.dtype) -> None:
    matrix = torch.nn.Parameter(torch.ones(512, 512, dtype=dtype))
    optimizer = MasterOptimizer([("q", matrix)], Optimization(optimizer=kind))  # type: ignore[arg-type]
    (state,) = optimizer._states
    held = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    assert held / matrix.numel() == pytest.approx(optim.MOMENT_BYTES[kind][dtype == torch.float32], rel=0.05)


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
    optimizer = MasterOptimizer([("w", ours)], settings)
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
    optimizer = MasterOptimizer([("w", parameter)], Optimization(clip=1.0))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert optimizer.step(0.01) == pytest.approx(5.0)
    assert torch.allclose(parameter, torch.tensor([-0.01, -0.01]), atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "adamw8bit", "muon"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_is_not_applied(kind: str, value: float) -> None:
    named = [(name, torch.nn.Parameter(torch.ones(2, 2))) for name in ("a", "b")]
    optimizer = MasterOptimizer(named, Optimization(optimizer=kind))  # type: ignore[arg-type]
    for _, parameter in named:
        parameter.grad = torch.ones(2, 2)
    named[0][1].grad = torch.tensor([[value, 0.0], [0.0, 0.0]])
    assert not math.isfinite(optimizer.step(0.1))
    assert all(torch.equal(parameter, torch.ones(2, 2)) and parameter.grad is None for _, parameter in named)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["adamw", "adamw32bit", "adamw8bit", "muon"])
def test_updating_in_parts_changes_nothing(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adamw, "fits", lambda _: False)  # a kernel of our own needs no parts

    def trained(part: int) -> list[torch.Tensor]:
        monkeypatch.setattr(optim, "PART", {"cpu": part})
        torch.manual_seed(0)
        shapes = {"embed": (4, 3), "q": (3, 3), "norm": (3,), "o": (3, 3)}
        named = [(name, torch.nn.Parameter(torch.randn(shape, dtype=dtype))) for name, shape in shapes.items()]
        optimizer = MasterOptimizer(named, Optimization(optimizer=kind, weight_decay=0.1))  # type: ignore[arg-type]
        for _ in range(3):
            for _, parameter in named[:-1]:  # the last one gets no gradient
                parameter.grad = torch.randn_like(parameter)
            optimizer.step(0.01)
        return [parameter.detach() for _, parameter in named]

    for whole, parts in zip(trained(1 << 20), trained(10), strict=True):
        assert torch.equal(whole, parts)


def test_masters_collect_what_bfloat16_would_lose() -> None:
    # 0.001 is below half a bf16 step at 1.0 (2^-8 = 0.0039): alone it rounds away, ten of them do not.
    parameter = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))
    optimizer = MasterOptimizer([("w", parameter)], Optimization())
    for _ in range(10):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step(0.001)
    assert torch.allclose(optimizer.masters.value(0), torch.full((2, 2), 0.99), atol=1e-4)
    assert parameter.flatten()[0].item() == pytest.approx(0.98828125)  # 0.99 rounded to bf16


def test_state_comes_back() -> None:
    def run(steps: int, state: dict[str, object] | None = None) -> MasterOptimizer:
        optimizer = MasterOptimizer([("w", torch.nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16)))], Optimization())
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
    assert torch.equal(resumed.masters.value(0), whole.masters.value(0))
    assert torch.equal(resumed.parameters[0], whole.parameters[0])


def test_a_stable_schedule_falls_over_its_last_fifth() -> None:
    wsd = Optimization(learning_rate=1.0, schedule="wsd", warmup=0.0)
    # 11 steps, 1 of warm-up; the share of the ten left that is done falls from 1 to 0 between 0.8 and 1
    assert [round(wsd.rate(step, 11), 3) for step in range(11)] == [1.0] * 10 + [0.5]


def test_lora_plus_speeds_up_b() -> None:
    a, b = torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = MasterOptimizer([("q.lora_A.weight", a), ("q.lora_B.weight", b)], Optimization(lora_b=16, clip=1e9))
    a.grad, b.grad = torch.ones(2, 3), torch.ones(3, 2)
    optimizer.step(0.01)
    # AdamW's first step is the learning rate itself, against the gradient's sign
    assert torch.allclose(a, torch.full((2, 3), -0.01)) and torch.allclose(b, torch.full((3, 2), -0.16))


def test_muon_takes_matrices_and_leaves_the_rest_to_adamw() -> None:
    torch.manual_seed(0)
    named = {
        "layers.0.q_proj.weight": torch.nn.Parameter(torch.zeros(8, 8, dtype=torch.bfloat16)),
        "embed_tokens.weight": torch.nn.Parameter(torch.zeros(8, 8)),
        "norm.weight": torch.nn.Parameter(torch.ones(8)),
    }
    optimizer = MasterOptimizer(named.items(), Optimization(optimizer="muon", clip=1e9))
    for parameter in named.values():
        parameter.grad = torch.randn(parameter.shape).to(parameter.dtype)
    optimizer.step(0.01)
    update = named["layers.0.q_proj.weight"].detach().float()
    values = torch.linalg.svdvals(update)
    # orthogonal up to the iteration's tolerance, and scaled so that an entry is about 0.2 of the learning rate
    assert values.max() / values.min() < 2.5 and float(update.square().mean().sqrt()) == pytest.approx(0.002, rel=0.3)
    assert torch.allclose(named["embed_tokens.weight"].abs(), torch.full((8, 8), 0.01), atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "adamw32bit", "adamw8bit", "muon"])
def test_any_optimizer_resumes_to_the_same_bits(kind: str) -> None:
    settings = Optimization(optimizer=kind)  # type: ignore[arg-type]
    values = []
    for interrupted in (False, True):
        draw = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(80, 64, generator=draw).bfloat16())
        optimizer = MasterOptimizer([("q.weight", weight)], settings)
        for step in range(4):
            if interrupted and step == 2:
                saved = copy.deepcopy(optimizer.state())
                weight.data.zero_()
                optimizer = MasterOptimizer([("q.weight", weight)], settings)
                optimizer.restore(saved)
            weight.grad = torch.randn(80, 64, generator=draw).bfloat16()
            optimizer.step(0.01)
        values.append(optimizer.masters.value(0).clone())
    assert torch.equal(*values)
