"""One update by our own kernel is torch's AdamW, on whole and on split weights."""

from __future__ import annotations

import pytest
import torch

from burnish.models import native
from burnish.models.native import adamw
from burnish.training.moments import noise_of

pytestmark = pytest.mark.skipif(native.library() is None, reason="no kernels here")
BY = {"rate": 0.01, "betas": (0.9, 0.95), "epsilon": 1e-8, "decay": 0.1, "noise": noise_of(1), "shift": 0}


def state(count: int) -> dict[str, torch.Tensor]:
    return {"step": torch.zeros(()), "exp_avg": torch.zeros(count), "exp_avg_sq": torch.zeros(count)}


def draws(count: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(count, generator=draw) for _ in range(4)]


def test_it_is_torchs() -> None:
    start, *grads = draws(20_000)  # more than one task, and a rest
    theirs = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    mine, moments = start.clone(), state(20_000)
    for grad in grads:
        theirs.grad = grad * 0.25
        optimizer.step()
        adamw.step([mine], grad, moments, share=0.25, **BY)
    assert torch.allclose(mine, theirs, atol=1e-6) and float(moments["step"]) == 3
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.allclose(moments[name], optimizer.state[theirs][name], rtol=1e-5, atol=1e-7)


def test_split_weights_move_as_whole_ones_do() -> None:
    start, *grads = draws(20_000)
    high, low = start.bfloat16(), torch.zeros(20_000, dtype=torch.int16)
    whole, split_state, whole_state = high.float(), state(20_000), state(20_000)
    for grad in map(torch.Tensor.bfloat16, grads):
        adamw.step([high, low.view(torch.bfloat16)], grad, split_state, share=1.0, **BY)
        adamw.step([whole], grad.float(), whole_state, share=1.0, **BY)
    master = ((high.view(torch.int16).int() << 16) + low.int()).view(torch.float32)
    assert torch.equal(master, whole)  # to the bit
    assert (high.float() - whole).abs().max() <= whole.abs().max() * 2**-8  # what the model holds is the nearest
