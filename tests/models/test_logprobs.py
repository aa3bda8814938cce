"""Log-probabilities without kept logits equal the plain computation, gradients included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from burnish.models import logprobs
from burnish.models.load import load_model
from burnish.models.logprobs import Head, backbone_of, head_logprobs, head_of, token_logprobs


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows of logits at a time, so that chunks and their borders matter."""
    monkeypatch.setattr(logprobs, "CHUNK", 3 * 50)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("with_bias", [False, True])
def test_head_equals_log_softmax(small_chunks: None, softcap: float | None, scale: float, with_bias: bool) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(10, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    bias = torch.randn(50, requires_grad=True) if with_bias else None
    tokens, upstream = torch.randint(0, 50, (10,)), torch.randn(10)
    leaves = [leaf for leaf in (hidden, weight, bias) if leaf is not None]

    logits = torch.nn.functional.linear(hidden, weight, bias) * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    expected = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    grads = torch.autograd.grad((expected * upstream).sum(), leaves)

    found = head_logprobs(hidden, tokens, Head(weight, bias, scale, softcap))
    assert torch.allclose(found, expected, atol=1e-5)
    for ours, plain in zip(torch.autograd.grad((found * upstream).sum(), leaves), grads, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)


def test_no_tokens_give_no_values() -> None:
    head = Head(torch.randn(50, 16), None, 1.0, None)
    assert head_logprobs(torch.randn(0, 16), torch.zeros(0, dtype=torch.long), head).shape == (0,)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_token_logprobs_equal_the_models_own_logits(kind: str, tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model(kind, tmp_path), dtype="float32")
    torch.manual_seed(1)
    ids = torch.randint(7, 300, (3, 20))
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    targets = torch.zeros_like(ids, dtype=torch.bool)
    targets[0, 5:], targets[1, 1:15], targets[2, 19] = True, True, True

    values = lm.model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    expected = values[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0][targets[:, 1:]]
    grads = torch.autograd.grad(expected.sum(), list(lm.model.parameters()), allow_unused=True)
    found = token_logprobs(lm.model, ids, mask, targets)
    assert found.shape == (15 + 14 + 1,)
    assert torch.allclose(found, expected, atol=2e-5)
    ours = torch.autograd.grad(found.sum(), list(lm.model.parameters()), allow_unused=True)
    for mine, plain in zip(ours, grads, strict=True):
        if plain is not None:
            assert mine is not None and torch.allclose(mine, plain, atol=1e-4, rtol=1e-4)


def test_the_first_token_cannot_be_predicted(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("llama", tmp_path), dtype="float32")
    ids = torch.tensor([[7, 8]])
    with pytest.raises(ValueError, match="nothing before it"):
        token_logprobs(lm.model, ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool))


def test_gemmas_soft_cap_is_read_from_its_config(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("gemma3", tmp_path), dtype="float32")
    assert head_of(lm.model).softcap == 30.0
    assert backbone_of(lm.model) is lm.model.model
