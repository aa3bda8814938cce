"""Our kernels of the softmax over a vocabulary in parts give what the written functions give."""

from __future__ import annotations

import pytest
import torch

from burnish.models import logprobs, native
from burnish.models.native import head

pytestmark = pytest.mark.skipif(native.library() is None, reason="no kernels here")
ROWS, WIDTH = 5, 300
TOKENS = torch.tensor([0, 299, 17, -4, 300])  # the last two are in other parts


def raw(kind: torch.dtype) -> torch.Tensor:
    return (torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0)) * 3).to(kind)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, 4.0)])
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_parts_are_taken_in(kind: torch.dtype, scale: float, softcap: float | None, learns: bool, begun: bool) -> None:
    before = (torch.full((ROWS,), 2.0 if begun else -torch.inf), torch.full((ROWS,), 3.0 if begun else 0.0),
              torch.full((ROWS,), 0.5))  # fmt: skip
    expected = logprobs._taken_in.plain(raw(kind), TOKENS, *before, scale, softcap, learns)
    found = head.taken_in(raw(kind), TOKENS, *(one.clone() for one in before), scale, softcap, learns)
    assert found is not None
    for mine, theirs in zip(found[: 5 if learns else 4], expected[: 5 if learns else 4], strict=True):
        assert torch.allclose(mine.float(), theirs.float(), rtol=2**-8 if mine.dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, 4.0)])
def test_gradients_are_pushed(kind: torch.dtype, scale: float, softcap: float | None) -> None:
    normalizer, given = torch.tensor([5.0, 6.0, 7.0, 8.0, 9.0]), torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0])
    expected, _ = logprobs._pushed.plain(raw(kind), TOKENS, normalizer, given, scale, softcap, False)
    found = head.pushed(raw(kind), TOKENS, normalizer, given, scale, softcap, False)
    assert found is not None
    assert torch.allclose(found[0].float(), expected.float(), rtol=2**-7 if kind == torch.bfloat16 else 1e-4, atol=1e-6)


@pytest.mark.parametrize("masked", [-1e20, torch.finfo(torch.float32).min, -torch.inf])
def test_a_masked_logit_adds_nothing(masked: float) -> None:
    states = raw(torch.float32)
    states[:, 7] = masked
    begun = torch.full((ROWS,), -torch.inf), torch.zeros(ROWS), torch.zeros(ROWS)
    expected = logprobs._taken_in.plain(states.clone(), TOKENS, *begun, 1.0, None, False)
    found = head.taken_in(states, TOKENS, *(one.clone() for one in begun), 1.0, None, False)
    assert found is not None and torch.allclose(found[1], expected[1], rtol=1e-5)


def test_a_cap_may_be_a_whole_number() -> None:
    begun = torch.full((ROWS,), -torch.inf), torch.zeros(ROWS), torch.zeros(ROWS)
    found = [head.taken_in(raw(torch.float32), TOKENS, *(one.clone() for one in begun), 1, cap, False)
             for cap in (4, 4.0)]  # fmt: skip
    assert found[0] is not None and found[1] is not None and torch.equal(found[0][1], found[1][1])


def test_a_bias_is_torchs() -> None:
    normalizer = torch.zeros(ROWS)
    assert head.pushed(raw(torch.float32), TOKENS, normalizer, normalizer, 1.0, None, True) is None


def test_what_is_not_a_number_shows() -> None:
    states = raw(torch.float32)
    states[2, 5] = torch.nan
    begun = torch.full((ROWS,), -torch.inf), torch.zeros(ROWS), torch.zeros(ROWS)
    found = head.taken_in(states, TOKENS, *begun, 1.0, None, False)
    assert found is not None and found[1].isnan().tolist() == [False, False, True, False, False]
