"""Log-probabilities without kept logits equal the plain computation, gradients included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from burnish import hardware
from burnish.models import logprobs
from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.load import load_model
from burnish.models.logprobs import Head, backbone_of, head_logprobs, head_of, token_logprobs


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen tokens of the vocabulary at a time for ten rows, so that parts and their borders matter."""
    monkeypatch.setattr(logprobs, "CHUNK", {"cpu": 10 * 15})
    monkeypatch.setattr(logprobs, "NARROWEST", 1)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("learns", [True, False], ids=["head learns", "head frozen"])
def test_head_equals_log_softmax(
    small_chunks: None, softcap: float | None, scale: float, with_bias: bool, learns: bool
) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(10, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=learns)
    bias = torch.randn(50, requires_grad=learns) if with_bias else None
    tokens, upstream = torch.randint(0, 50, (10,)), torch.randn(10)
    leaves = [leaf for leaf in (hidden, weight, bias) if leaf is not None and leaf.requires_grad]

    logits = torch.nn.functional.linear(hidden, weight, bias) * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    expected = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    grads = torch.autograd.grad((expected * upstream).sum(), leaves)

    found = head_logprobs(hidden, tokens, Head(weight, bias, scale, softcap))
    assert torch.allclose(found, expected, atol=1e-5)
    for ours, plain in zip(torch.autograd.grad((found * upstream).sum(), leaves), grads, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("native", [True, False], ids=["kernels", "written"])
def test_logits_that_are_kept_change_no_bit(small_chunks: None, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(logprobs._taken_in, "_native", None)
        monkeypatch.setattr(logprobs._pushed, "_native", None)
    torch.manual_seed(0)
    hidden, weight = (torch.randn(rows, 16, requires_grad=True) for rows in (10, 50))
    tokens, upstream = torch.randint(0, 50, (10,)), torch.randn(10)
    found = []
    # Parts of 15 tokens for ten rows take 600 bytes, the last one of five 200: none fits, the first and the last, all
    for room in (0, 800, 1 << 20):
        monkeypatch.setattr(logprobs, "KEPT", {"cpu": room})
        values = head_logprobs(hidden, tokens, Head(weight, None, 1.0, None))
        kept = values.grad_fn.next_functions[0][0].kept if room else {}
        assert list(kept) == {0: [], 800: [0, 45], 1 << 20: [0, 15, 30, 45]}[room]
        grads = [torch.autograd.grad((values * upstream).sum(), [hidden, weight], retain_graph=True) for _ in range(2)]
        assert not kept  # and what is asked for again is made again
        found.append([values, *grads[0], *grads[1]])
    for one in found[1:]:
        assert all(torch.equal(mine, first) for mine, first in zip(one, found[0], strict=True))
    assert torch.equal(found[0][1], found[0][3]) and torch.equal(found[0][2], found[0][4])


def test_no_tokens_give_no_values() -> None:
    head = Head(torch.randn(50, 16), None, 1.0, None)
    assert head_logprobs(torch.randn(0, 16), torch.zeros(0, dtype=torch.long), head).shape == (0,)


def rows_of(draw: torch.Generator) -> list[Rendered]:
    """Four rows of 20 to 60 tokens: two share 30 tokens, one is the beginning of another, one stands alone."""
    ids = torch.randint(7, 300, (200,), generator=draw).tolist()
    prompt = ids[:30]
    rows = [prompt + ids[30:60], prompt + ids[60:75], prompt + ids[30:50], ids[100:120]]
    return [Rendered(tuple(row), (0.0,) * 5 + (1.0,) * (len(row) - 5), ()) for row in rows]


def of_each_alone(model: Any, rows: list[Rendered]) -> torch.Tensor:
    """The log-probabilities of what rows learn, from the model's own logits of one row after another."""
    found = []
    for row in rows:
        ids = torch.tensor([row.ids])
        values = model(input_ids=ids).logits[0].float().log_softmax(-1)
        found.append(values[4:-1].gather(1, ids[0, 5:, None])[:, 0])
    return torch.cat(found)


def gradients(model: Any, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of an uneven sum of values, for every weight that has a part in it."""
    given = torch.randn(len(values), generator=torch.Generator().manual_seed(2))
    named = dict(model.named_parameters())
    found = torch.autograd.grad((values * given).sum(), list(named.values()), allow_unused=True)
    return {name: grad.float() for name, grad in zip(named, found, strict=True) if grad is not None}


@pytest.mark.parametrize(("trees", "extra"), [(True, 0), (True, 7), (False, 0)])
@pytest.mark.parametrize("kind", tiny.MORE)
def test_token_logprobs_equal_the_models_own_logits(
    kind: str, trees: bool, extra: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trees and kind == "lfm2":
        pytest.skip("its convolutions cannot be packed")
    monkeypatch.setattr(logprobs, "extra_rows", lambda rows, weight: extra)  # 7 more than there are change nothing
    lm = load_model(tiny.tiny_model(kind, tmp_path), dtype="float32")
    rows = rows_of(torch.Generator().manual_seed(1))
    naive = of_each_alone(lm.model, rows)
    expected = gradients(lm.model, naive)

    batch = lay_out(rows, "cpu", trees=trees)
    found = token_logprobs(lm.model, batch)
    # As trees: 30 shared + 30 and 15 of their own + 20 alone; the third row is the beginning of the first.
    assert batch.tokens == (30 + 30 + 15 + 20 if trees else 4 * 60)
    assert batch.owners.bincount().tolist() == [55, 40, 45, 15]
    assert torch.allclose(found, naive, atol=2e-5)
    ours = gradients(lm.model, found)
    assert ours.keys() == expected.keys()
    for name, grad in expected.items():
        assert (ours[name] - grad).norm() <= 1e-5 * grad.norm().clamp_min(1.0), name


def test_products_in_bfloat16_have_few_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load_model(tiny.tiny_model("llama", tmp_path), dtype="bfloat16")
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda: True)
    seen: set[int] = set()
    for layer in (backbone_of(lm.model).layers[0].mlp.up_proj, backbone_of(lm.model).layers[0].self_attn.q_proj):
        layer.register_forward_pre_hook(lambda _, given: seen.add(given[0].shape[1]))
    row = torch.randint(7, 300, (128,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.no_grad():
        for length in range(64, 129):
            values = token_logprobs(lm.model, lay_out([Rendered(tuple(row[:length]), (0.0, *[1.0] * (length - 1)), ())],
                                                      "cpu", trees=True))  # fmt: skip
            assert len(values) == length - 1
    assert seen == set(range(64, 129, 4))  # 64 has seven bits, 2 ** (7 - 5) = 4


@pytest.mark.parametrize("kind", tiny.MORE)
def test_in_bfloat16_sharing_differs_by_no_more_than_rounding(kind: str, tmp_path: Path) -> None:
    """Values and gradients are no further from those of fp32 than those of separate rows are."""
    exact = load_model(tiny.tiny_model(kind, tmp_path), dtype="float32")
    rough = load_model(tmp_path, dtype="bfloat16")
    rows = rows_of(torch.Generator().manual_seed(1))
    truth, apart = (of_each_alone(lm.model, rows) for lm in (exact, rough))
    shared = token_logprobs(rough.model, lay_out(rows, "cpu", trees=kind != "lfm2"))  # which cannot be packed
    assert 0 < (shared - truth).norm() <= 1.5 * (apart - truth).norm()
    true, noisy, ours = (gradients(lm.model, values)
                         for lm, values in ((exact, truth), (rough, apart), (rough, shared)))  # fmt: skip
    assert true.keys() == noisy.keys() == ours.keys()
    for name, grad in true.items():
        noise, error = ((found[name] - grad).norm() for found in (noisy, ours))
        assert 0 < error <= 2 * noise, name


@pytest.mark.parametrize("trees", [True, False])
def test_the_first_token_cannot_be_predicted(trees: bool) -> None:
    with pytest.raises(ValueError, match="nothing before it"):
        lay_out([Rendered((7, 8), (1.0, 1.0), ())], "cpu", trees=trees)


def test_gemmas_soft_cap_is_read_from_its_config(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("gemma3", tmp_path), dtype="float32")
    assert head_of(lm.model).softcap == 30.0
    assert backbone_of(lm.model) is lm.model.model
