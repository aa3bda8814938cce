"""Fused layers: the same values, by torch's operations bit for bit, the same gradients, less kept, and nothing replaced
that does not fit."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Olmo2Config, Qwen2Config, SeedOssConfig

import tiny
from burnish.models import fusing, native
from burnish.models.adapters import Lora, attach
from burnish.models.fusing import fused_layers
from burnish.models.load import LanguageModel, load_model

IDS = torch.arange(10, 50).view(2, 20)
BOTH = pytest.mark.parametrize("lora", [False, True])
OWN = pytest.mark.parametrize("own", [pytest.param(True, marks=pytest.mark.skipif(
    native.library() is None, reason="no kernels of our own here")), False])  # fmt: skip
KINDS = [*tiny.KINDS, "olmo2", "qwen2"]


@pytest.fixture(autouse=True)
def more_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm that rounds after the weight, and projections with a bias."""
    monkeypatch.setitem(tiny.CONFIGS, "olmo2", (Olmo2Config, {}))
    monkeypatch.setitem(tiny.CONFIGS, "qwen2", (Qwen2Config, {}))
    for kind in ("olmo2", "qwen2"):
        monkeypatch.setitem(tiny.TEMPLATES, kind, tiny.CHATML)


def made(kind: str, folder: Path, lora: bool, dtype: str = "float32", **settings: Any) -> LanguageModel:
    """A model whose norms and adapter are not as they start."""
    lm = load_model(tiny.tiny_model(kind, folder), dtype=dtype)
    if lora:
        lm = attach(lm, Lora(rank=4, **settings), seed=0)
    torch.manual_seed(1)
    for name, parameter in lm.model.named_parameters():
        if parameter.ndim == 1 or "lora_" in name:
            torch.nn.init.normal_(parameter, mean=0.0 if "lora_" in name else 0.5, std=0.1)
    return lm


def passed(lm: LanguageModel) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of one pass."""
    lm.model.zero_grad()
    logits = lm.model(input_ids=IDS).logits
    (logits.float().log_softmax(-1)[..., 3].sum() / 10).backward()
    grads = {name: value.grad.clone() for name, value in lm.model.named_parameters() if value.grad is not None}
    return logits.detach(), grads


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "computes", lambda _: False)
    monkeypatch.setattr(native, "multiplies", lambda _: False)


def replaced(lm: LanguageModel) -> list[str]:
    return [name for name, module in lm.model.named_modules() if "forward" in vars(module)]


@BOTH
@OWN
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_stay(
    kind: str, own: bool, lora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own:
        without_kernels(monkeypatch)
    lm = made(kind, tmp_path, lora)
    logits, grads = passed(lm)
    with fused_layers(lm.model):
        names = replaced(lm)
        fused_logits, fused_grads = passed(lm)
    assert any("norm" in name for name in names) and not replaced(lm) and not fusing._AGAIN
    assert any(name.endswith("mlp") for name in names) or kind == "lfm2"
    assert any("proj" in name for name in names) == lora
    assert torch.allclose(fused_logits, logits, atol=1e-5) if lora or own else torch.equal(fused_logits, logits)
    assert fused_grads.keys() == grads.keys() and len(grads) > 4
    for name, grad in grads.items():
        assert torch.allclose(fused_grads[name], grad, rtol=1e-4, atol=1e-4 * float(grad.abs().max())), name


@OWN
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_values_stay(kind: str, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not own:
        without_kernels(monkeypatch)
    lm = made(kind, tmp_path, lora=False, dtype="bfloat16")
    logits, grads = passed(lm)
    with fused_layers(lm.model):
        fused_logits, fused_grads = passed(lm)
    assert torch.allclose(fused_logits, logits, atol=0.03) if own else torch.equal(fused_logits, logits)
    for name, grad in grads.items():
        difference = (fused_grads[name].float() - grad.float()).norm() / grad.float().norm()
        assert difference < 0.03, name


def test_an_mlps_own_dropout_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny.CONFIGS, "seed_oss", (SeedOssConfig, {"residual_dropout": 0.5, "head_dim": 8}))
    monkeypatch.setitem(tiny.TEMPLATES, "seed_oss", tiny.CHATML)
    lm = made("seed_oss", tmp_path, lora=False)
    lm.model.train()

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return passed(lm)[0]

    expected = drawn(0)
    with fused_layers(lm.model):
        assert torch.allclose(drawn(0), expected, atol=1e-5) and not torch.allclose(drawn(1), expected, atol=1e-2)
        assert any("norm" in name for name in replaced(lm))


def kept(lm: LanguageModel) -> int:
    """Bytes that autograd holds between a forward and a backward pass, beside the weights."""
    known = {value.untyped_storage().data_ptr() for value in lm.model.parameters()}
    found: dict[int, int] = {}

    def pack(value: Any) -> Any:
        packed = fusing._pack(value) if replaced(lm) else value
        if isinstance(packed, torch.Tensor) and packed.untyped_storage().data_ptr() not in known:
            found[packed.untyped_storage().data_ptr()] = packed.untyped_storage().nbytes()
        return packed

    with torch.autograd.graph.saved_tensors_hooks(pack, fusing._unpack if replaced(lm) else lambda value: value):
        _held = lm.model.get_decoder()(input_ids=IDS).last_hidden_state
    return sum(found.values())


def test_less_is_kept(tmp_path: Path) -> None:
    lm = made("llama", tmp_path, lora=False, dtype="bfloat16")
    plain = kept(lm)
    with fused_layers(lm.model):
        assert kept(lm) < 0.65 * plain  # the attention of a model of 32 channels weighs more than a real one's


def test_a_result_is_made_once_for_all_that_need_it_and_then_let_go() -> None:
    made: list[weakref.ref[torch.Tensor]] = []

    def make() -> torch.Tensor:
        result = torch.full((2,), 3.0)
        made.append(weakref.ref(result))
        return result

    with torch.autograd.graph.saved_tensors_hooks(fusing._pack, fusing._unpack):
        first, second = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        source = torch.full((2,), 3.0, requires_grad=True)
        shared = fusing._made_by(make, source * 1)
        loss = (shared * first + shared * second).sum()
    del shared
    assert not made
    loss.backward()
    assert len(made) == 1 and made[0]() is None
    assert first.grad.tolist() == second.grad.tolist() == [3.0, 3.0] and source.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("settings", [{"dora": True}, {"dropout": 0.5}])
def test_other_adapters_are_left_as_they_are(settings: dict[str, Any], tmp_path: Path) -> None:
    lm = made("llama", tmp_path, lora=True, **settings)
    with fused_layers(lm.model):
        assert not any("q_proj" in name for name in replaced(lm))


def test_a_norm_that_computes_otherwise_is_left_as_it_is(tmp_path: Path) -> None:
    lm = made("llama", tmp_path, lora=False)

    class OddRMSNorm(type(lm.model.model.norm)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = super().forward(x) + 0.01
            return result

    lm.model.model.norm.__class__ = OddRMSNorm
    with fused_layers(lm.model):
        names = replaced(lm)
    assert "model.norm" not in names and "model.layers.0.input_layernorm" in names


def test_nothing_is_replaced_when_it_is_not_wanted(tmp_path: Path) -> None:
    lm = made("llama", tmp_path, lora=False)
    with fused_layers(lm.model, wanted=False):
        assert not replaced(lm)
