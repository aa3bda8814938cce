"""bfloat16 moments: what they cost, how they are rounded, and that they can be opened and closed."""

from __future__ import annotations

import pytest
import torch

from burnish.models import native
from burnish.models.native import SWITCH
from burnish.training import moments
from burnish.training.moments import NAMES, PERIOD, Moments, noise_of
from burnish.training.optim import MasterOptimizer, Optimization

WEIGHTS = [torch.zeros(3, 2), torch.zeros(5), torch.zeros(PERIOD + 10)]


def rounded(value: float, update: int, count: int = PERIOD) -> torch.Tensor:
    narrow = torch.zeros(count, dtype=torch.bfloat16)
    moments._round(torch.full((count,), value), narrow, noise_of(update)[0, :PERIOD])
    return narrow.float()


def test_a_moment_is_rounded_to_its_neighbours_so_that_the_mean_is_kept() -> None:
    # between 1 and 1 + 2^-7 bfloat16 has nothing: a quarter of the way up, one in four goes up
    for value, chance in ((1 + 2**-9, 0.25), (-1 - 2**-9, 0.25), (1 + 2**-8, 0.5), (3e-20, None)):
        found = rounded(value, update=1)
        assert len(found.unique()) == 2
        assert float(found.mean()) == pytest.approx(value, rel=2e-4)
        if chance is not None:
            assert float((found.abs() > 1).float().mean()) == pytest.approx(chance, abs=0.03)
    assert rounded(-1.5, update=1).unique().tolist() == [-1.5]  # a bfloat16 number stays
    assert not torch.equal(rounded(1 + 2**-8, update=1), rounded(1 + 2**-8, update=2))
    assert not torch.equal(*noise_of(1)) and torch.equal(noise_of(3), noise_of(3))


def test_a_slow_second_moment_falls_as_it_should() -> None:
    # without gradients: 0.999^1000 = 0.3677. Each step loses 0.1 %, half a step of bfloat16 is 0.2 to 0.4 %
    parameter = torch.nn.Parameter(torch.zeros(2000, dtype=torch.bfloat16))
    optimizer = MasterOptimizer([("w", parameter)], Optimization(betas=(0.9, 0.999), clip=1e9))
    optimizer._states[0]["exp_avg_sq"].fill_(1.0)
    for _ in range(1000):
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step(1e-5)
    left = optimizer._states[0]["exp_avg_sq"].float()
    assert float(left.mean()) == pytest.approx(0.999**1000, rel=0.01)
    assert float(left.std()) < 0.1 * float(left.mean())


def test_they_are_opened_as_fp32_and_closed_again() -> None:
    held = Moments(WEIGHTS, {0, 2})
    states = [held.of(number) for number in range(3)]
    assert states[1] == {} and [one.dtype for one in states[0].values()] == [torch.bfloat16] * 2
    spaces = held.spaces(torch.empty(PERIOD + 100))
    with held.opened([0, 1, 2], states, spaces, update=1):
        assert states[1] == {} and states[0][NAMES[0]].dtype == torch.float32 and states[0][NAMES[0]].shape == (3, 2)
        states[0][NAMES[0]].fill_(2.0)
        states[2][NAMES[1]].fill_(-3.0)
    assert states[0][NAMES[0]].tolist() == [[2.0, 2.0]] * 3 and states[0][NAMES[1]].abs().max() == 0
    assert states[2][NAMES[1]].unique().tolist() == [-3.0] and states[2][NAMES[1]].dtype == torch.bfloat16
    assert held.of(2)[NAMES[1]].data_ptr() == states[2][NAMES[1]].data_ptr()


def test_a_part_without_values_has_moments_of_the_same_kind() -> None:
    """What a process holds of a weight that has fewer rows than there are processes."""
    held = Moments([torch.zeros(0, 8), torch.zeros(3)], {0, 1})
    states = [held.of(0), held.of(1)]
    assert [one.dtype for one in states[0].values()] == [torch.bfloat16] * 2 and states[0][NAMES[0]].shape == (0, 8)
    with held.opened([0, 1], states, held.spaces(torch.empty(3)), update=1):
        assert states[0][NAMES[0]].dtype == torch.float32
    assert states[0][NAMES[1]].dtype == torch.bfloat16


def test_where_a_part_begins_does_not_matter_to_the_noise() -> None:
    found = []
    for parts in ([[0, 1, 2]], [[0], [1], [2]], [[0, 1], [2]]):
        held = Moments(WEIGHTS, {0, 1, 2})
        states = [held.of(number) for number in range(3)]
        for part in parts:
            with held.opened(part, states, held.spaces(torch.empty(2 * PERIOD)), update=7):
                for number in part:
                    states[number][NAMES[0]].fill_(1 + 2**-8)
        found.append(torch.cat([state[NAMES[0]].flatten() for state in states]))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize(("optimizer", "size"), [("adamw", 4), ("adamw32bit", 8)])
def test_bytes_a_parameter(optimizer: str, size: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1000, 10, dtype=torch.bfloat16))
    made = MasterOptimizer([("w", parameter)], Optimization(optimizer=optimizer))  # type: ignore[arg-type]
    assert sum(made._states[0][name].nbytes for name in NAMES) == size * 10_000


@pytest.mark.skipif(native.library() is None, reason="no kernels here")
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw32bit", "adamw8bit"])
def test_the_kernels_round_as_torchs_operations_do(optimizer: str, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
                                                   ) -> None:  # fmt: skip
    def trained(own: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        monkeypatch.setenv(SWITCH, "1" if own else "0")
        native.library.cache_clear()
        draw = torch.Generator().manual_seed(0)
        named = [(str(size), torch.nn.Parameter(torch.randn(size, generator=draw).to(kind)))
                 for size in (7, 20 * PERIOD + 5, 100)]  # fmt: skip
        settings = Optimization(weight_decay=0.1, clip=1e9, optimizer=optimizer)  # type: ignore[arg-type]
        made = MasterOptimizer(named, settings)
        assert made._fused == own
        for _ in range(3):
            for _, parameter in named:
                parameter.grad = torch.randn(len(parameter), generator=draw).to(kind)
            made.step(0.01)
        states = [state[name].flatten() for state in made._states for name in NAMES]
        return [made.masters.value(number) for number in range(3)], states

    try:
        ours, theirs = trained(True), trained(False)
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
    # sums in another order may put a number on the other side of its noise: a step of bfloat16 away, or a code
    for one, other in zip(ours[0], theirs[0], strict=True):
        assert torch.allclose(one, other, atol=2e-3)
        assert float(torch.isclose(one, other, rtol=1e-5, atol=1e-6).float().mean()) > 0.99
    for one, other in zip(ours[1], theirs[1], strict=True):
        assert one.dtype == other.dtype
        apart = (one.float() - other.float()).abs()
        assert float(apart.max()) <= (0.004 if one.is_floating_point() else 1)
        assert float((apart < 1e-6).float().mean()) > 0.99


@pytest.mark.skipif(native.library() is None, reason="no kernels here")
def test_the_last_block_of_codes_may_be_short() -> None:
    # 4,096 values and one: the one's own scale is its moment, |g| (1 - 0.9) = 0.05 and 0.25 (1 - 0.95) = 0.0125
    parameter = torch.nn.Parameter(torch.zeros(4097))
    optimizer = MasterOptimizer([("w", parameter)], Optimization(optimizer="adamw8bit", clip=1e9))
    parameter.grad = torch.full((4097,), -3.0)
    parameter.grad[-1] = 0.5
    optimizer.step(0.01)
    state = optimizer._states[0]
    assert state["exp_avg_scale"][-1].item() == pytest.approx(0.05)
    assert state["exp_avg_sq_scale"][-1].item() == pytest.approx(0.0125)
    assert state["exp_avg"][-1, 0] == 127 and state["exp_avg"][0, 0] == -127 and state["exp_avg_sq"][-1, 0] == 255
    assert parameter[-1].item() == pytest.approx(-0.01) and parameter[0].item() == pytest.approx(0.01)
