"""Our kernels of attention give what torch's operations give, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from burnish.models import native
from burnish.models.attention import tree_attention
from burnish.models.native import attention

pytestmark = pytest.mark.skipif(not native.multiplies(torch.float32), reason="no kernels here")
Inputs = tuple[Tensor, Tensor, Tensor]
TREES = {
    "rows of more tiles and blocks than one": [[0, 300, 0, -1], [300, 305, 0, -1], [305, 306, 0, -1]],
    "branches behind branches": [[0, 150, 0, -1], [150, 191, 150, 0], [191, 400, 150, 0], [400, 433, 359, 2],
                                 [433, 500, 359, 2], [500, 517, 0, -1]],
    "more keys than a panel": [[0, 700, 0, -1], [700, 720, 700, 0]],
    "many short rows": [[start, start + 3, 0, -1] for start in range(0, 60, 3)],
    "short branches": [[0, 70, 0, -1], *([start, start + 2, 70, 0] for start in range(70, 110, 2))],
}  # fmt: skip


def inputs(total: int, width: int, value_width: int, kind: torch.dtype) -> Inputs:
    """Queries of six heads over two heads of keys, with the strides that a model's projections have."""
    draw = torch.Generator().manual_seed(0)
    shapes = ((6, width), (2, width), (2, value_width))
    made = [torch.randn(1, total, *shape, generator=draw).to(kind).transpose(1, 2) for shape in shapes]
    return made[0].requires_grad_(), made[1].requires_grad_(), made[2].requires_grad_()


def passed(given: Inputs, table: Tensor, window: int, softcap: float) -> list[Tensor]:
    """The output and the three gradients."""
    output = tree_attention(*given, table, given[0].shape[-1] ** -0.5, window, softcap)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
    return [output, *torch.autograd.grad(output, given, upstream)]


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (37, 0.0), (0, 5.0), (600, 3.0)])
@pytest.mark.parametrize(("width", "value_width"), [(64, 64), (20, 34)])
def test_it_equals_torch(tree: str, window: int, softcap: float, width: int, value_width: int,
                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    table = torch.tensor(TREES[tree])
    given = inputs(int(table[:, 1].max()), width, value_width, torch.float32)
    assert attention.fits(*given)
    ours = passed(given, table, window, softcap)
    monkeypatch.setattr(attention, "fits", lambda *_: False)
    for mine, theirs in zip(ours, passed(given, table, window, softcap), strict=True):
        assert torch.allclose(mine, theirs, atol=2e-5)


@pytest.mark.skipif(not native.multiplies(torch.bfloat16), reason="a CPU without bfloat16 products")
@pytest.mark.parametrize("tree", TREES)
def test_in_bfloat16_it_is_as_near_the_truth_as_torch(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.tensor(TREES[tree])
    given = inputs(int(table[:, 1].max()), 64, 64, torch.bfloat16)
    ours = passed(given, table, 0, 0.0)
    monkeypatch.setattr(attention, "fits", lambda *_: False)
    theirs = passed(given, table, 0, 0.0)
    wide = [one.detach().float().requires_grad_() for one in given]
    for mine, other, true in zip(ours, theirs, passed((wide[0], wide[1], wide[2]), table, 0, 0.0), strict=True):
        assert (mine.float() - true).norm() <= 1.2 * (other.float() - true).norm()


def test_one_thread_gives_the_same_bits_as_several() -> None:
    table = torch.tensor(TREES["branches behind branches"])
    given = inputs(517, 64, 64, torch.float32)
    threads = torch.get_num_threads()
    several = passed(given, table, 0, 0.0)
    torch.set_num_threads(1)
    try:
        alone = passed(given, table, 0, 0.0)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(several, alone, strict=True))


def test_what_is_not_a_number_shows() -> None:
    table = torch.tensor([[0, 10, 0, -1]])
    query, key, value = inputs(10, 8, 8, torch.float32)
    with torch.no_grad():
        key[0, 0, 3] = torch.nan
        output = tree_attention(query, key, value, table, 1.0, 0, 0.0)
    assert output[0, 3:, :3].isnan().all() and not output[0, :3].isnan().any()


def test_odd_widths_are_torchs() -> None:
    query, _, value = inputs(4, 7, 8, torch.float32)
    assert not attention.fits(query, query, value)


def test_tensors_of_several_number_formats_are_torchs() -> None:
    query, key, value = inputs(10, 8, 8, torch.float32)
    assert attention.fits(query, key, value) and not attention.fits(query, key, value.double())
