"""Adapters on tensors of experts: what peft gives, forward and backward, and nothing of the tensor's size for it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

import tiny
from burnish.errors import ModelError
from burnish.models.adapters import Lora, attach, fold, unfit
from burnish.models.compiling import layers_of
from burnish.models.experts import _Adapter, _grouped, chosen_share, stored
from burnish.models.fusing import fused_layers
from burnish.models.load import LanguageModel, load_model

IDS = torch.arange(10, 50).view(2, 20)
NAMES = ["q_proj", "up_proj", "gate_up_proj", "down_proj"]
MIXTURES = pytest.mark.parametrize("kind", tiny.MIXTURES)


def made(kind: str, folder: Path, dtype: str = "float32", rank: int = 3, **settings: Any) -> LanguageModel:
    """A model whose adapter has learned something."""
    base = load_model(tiny.tiny_model(kind, folder), dtype=dtype)
    names = [name for name in NAMES if any(f".{name}" in found for found, _ in base.model.named_parameters())]
    lm = attach(base, Lora(rank=rank, targets=names, **settings), seed=0)
    torch.manual_seed(1)
    for name, parameter in lm.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return lm


def passed(lm: LanguageModel) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of one pass."""
    lm.model.zero_grad()
    logits = lm.model(input_ids=IDS).logits
    (logits.float().log_softmax(-1)[..., 3].sum() / 10).backward()
    return logits.detach(), {name: value.grad.clone() for name, value in lm.model.named_parameters()
                             if value.grad is not None}  # fmt: skip


def test_rows_meet_the_matrix_of_their_expert() -> None:
    x, weights = torch.zeros(3, 4), torch.zeros(3, 1, 4)  # rows of 16 bytes
    x[:, :2] = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    weights[:, 0, :2] = torch.tensor([[1.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
    # One row for the first expert (1 + 2), none for the second, two for the third (2 x 3, 2 x 5)
    assert _grouped(x, weights, torch.tensor([1, 1, 3], dtype=torch.int32)).tolist() == [[3.0], [6.0], [10.0]]


def test_an_adapter_lies_as_peft_has_it() -> None:
    down, up = nn.Linear(4, 4, bias=False), nn.Linear(4, 1, bias=False)  # two experts of rank two
    with torch.no_grad():
        down.weight.zero_()[:, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])  # A: 1, 2 of the first; 3, 4 of the second
        up.weight.copy_(torch.tensor([[10.0, 20.0, 100.0, 200.0]]))  # B: the first rank of both, then the second
        given = _Adapter(down, up, 2, 0.5)(torch.ones(2, 4), torch.tensor([1, 2], dtype=torch.int32))
    # 0.5 (1 x 10 + 2 x 100) and 0.5 (3 x 20 + 4 x 200)
    assert given.tolist() == [[105.0], [430.0]]


@MIXTURES
def test_values_and_gradients_are_those_of_peft(kind: str, tmp_path: Path) -> None:
    lm = made(kind, tmp_path)
    logits, grads = passed(lm)
    with fused_layers(lm.model):
        assert any(name.endswith("experts") for name, module in lm.model.named_modules() if "forward" in vars(module))
        fused_logits, fused_grads = passed(lm)
    assert torch.allclose(fused_logits, logits, atol=1e-5)
    assert fused_grads.keys() == grads.keys() and any("experts" in name for name in grads)
    for name, grad in grads.items():
        assert torch.allclose(fused_grads[name], grad, rtol=1e-4, atol=1e-4 * float(grad.abs().max())), name


@MIXTURES
def test_in_bfloat16_up_to_its_rounding(kind: str, tmp_path: Path) -> None:
    """Most rows: near a tie, rounding sends a token to another expert."""
    lm = made(kind, tmp_path, dtype="bfloat16", rank=8)
    logits, _ = passed(lm)
    with fused_layers(lm.model):
        fused_logits, grads = passed(lm)
    assert (fused_logits - logits).abs().flatten(0, 1).amax(-1).median() < 0.1
    assert all(grad.isfinite().all() for grad in grads.values())


def largest_kept(lm: LanguageModel) -> int:
    """Bytes of the largest tensor that autograd keeps of a pass, beside the weights."""
    known = {value.untyped_storage().data_ptr() for value in lm.model.parameters()}
    found: list[int] = []

    def pack(value: torch.Tensor) -> torch.Tensor:
        if value.untyped_storage().data_ptr() not in known:
            found.append(value.untyped_storage().nbytes())
        return value.detach()  # what keeps its own output would never end

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        _held = lm.model(input_ids=IDS[:1, :4]).logits
    return max(found)


BYTES = 4 * 96 * 32 * 4
"""Of the tiny model's gate_up_proj."""


def test_nothing_of_the_tensors_size_is_kept(tmp_path: Path) -> None:
    lm = made("qwen3_moe", tmp_path)
    assert largest_kept(lm) == BYTES
    with fused_layers(lm.model):
        assert largest_kept(lm) < BYTES / 2


@MIXTURES
def test_what_is_saved_is_read_by_peft_and_folded(kind: str, tmp_path: Path) -> None:
    lm = made(kind, tmp_path / "base")
    expected, _ = passed(lm)
    lm.save(tmp_path / "adapter")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    fold(lm).save(tmp_path / "folded")
    with torch.no_grad():
        found = PeftModel.from_pretrained(theirs, tmp_path / "adapter")(input_ids=IDS).logits
        assert torch.allclose(found, expected, atol=1e-5)
        again = load_model(tmp_path / "folded", dtype="float32").model(input_ids=IDS).logits
        assert torch.allclose(again, expected, atol=1e-4)


@pytest.mark.parametrize("targets", ["all-linear", ["gate_up_proj"]])
@pytest.mark.parametrize("settings", [{"dropout": 0.1}, {"dora": True}, {"init": "pissa"}, {"init": "orthogonal"}])
def test_settings_that_experts_cannot_have_are_known_without_weights(
    settings: dict[str, Any], targets: str | list[str], tmp_path: Path
) -> None:
    folder = tiny.tiny_model("qwen3_moe", tmp_path)
    lora = Lora(rank=2, targets=targets, **settings)
    (problem,) = unfit(folder, lora)
    assert "does not fit" in problem.what and "experts that are one tensor have no" in problem.hint
    with pytest.raises(ModelError, match="does not fit"):
        attach(load_model(folder, dtype="float32"), lora, seed=0)
    assert not list(unfit(folder, Lora(rank=2, targets=["q_proj", "o_proj"], **settings)))


def test_the_names_of_single_experts_do_too(tmp_path: Path) -> None:
    """peft makes one of gate_proj and up_proj."""
    folder = tiny.tiny_model("qwen3_moe", tmp_path)
    lm = attach(load_model(folder, dtype="float32"), Lora(rank=2, targets=["q_proj", "gate_proj", "up_proj"]), seed=0)
    assert any(name.endswith("mlp.experts.lora_A.default.weight") for name, _ in lm.model.named_parameters())
    assert not list(unfit(folder, Lora(targets=["gate_proj", "up_proj"])))
    (problem,) = unfit(folder, Lora(targets=["up_proj"]))
    assert "without also targeting gate_proj" in problem.what


def test_of_experts_those_that_a_token_goes_through_are_counted(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("qwen3_moe", tmp_path), dtype="float32")
    assert chosen_share(lm.model) == 0.5  # two of four
    # In each of two layers 32 x (32 + 16 + 16 + 32) + 8 + 8 + 32 + 32 of attention and norms, a router 4 x 32 and half
    # of 4 x 3 x 32 x 48; then a norm and a head of its own
    numbers = 2 * (32 * 96 + 80 + 128 + 2 * 3 * 32 * 48) + 32 + len(lm.tokenizer) * 32
    assert lm.operations == 6 * numbers
    assert chosen_share(load_model(tiny.tiny_model("llama", tmp_path / "dense")).model) == 1


def test_experts_in_modules_of_their_own_are_counted_too(tmp_path: Path) -> None:
    model = load_model(tiny.tiny_model("qwen3_moe", tmp_path), dtype="float32").model
    model.model.layers[0].mlp.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(8))
    model.model.layers[1].mlp.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(8))
    assert re.search(r"experts\.7\.weight", " ".join(name for name, _ in model.named_parameters()))
    assert chosen_share(model) == 0.25


# ---------------------------------------------------------------------------------------------------------- four bits

QUANTIZED = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def dequantized(lm: LanguageModel, folder: Path) -> Any:
    """The model of a folder with the weights that another one holds in four bits."""
    from bitsandbytes.functional import dequantize_4bit

    plain = load_model(folder, dtype=lm.dtype).model
    named = dict(lm.model.named_parameters())
    for name, weight in plain.named_parameters():
        held = named[name]
        if hasattr(held, "quant_state"):
            packed = getattr(held, "packed", held)
            weight.data.copy_(dequantize_4bit(packed.data, held.quant_state))
    return plain


@QUANTIZED
@MIXTURES
def test_four_bits_compute_as_the_weights_that_they_stand_for(kind: str, tmp_path: Path) -> None:
    folder = tiny.tiny_model(kind, tmp_path)
    lm = load_model(folder, dtype="float32", quantize=True)
    plain = dequantized(lm, folder)
    held = [name for name, weight in lm.model.named_parameters() if hasattr(weight, "packed")]
    assert held and all("experts" in name for name in held)
    with torch.no_grad():
        assert torch.allclose(lm.model(input_ids=IDS).logits, plain(input_ids=IDS).logits, atol=1e-4)
    assert lm.parameters == sum(weight.numel() for weight in plain.parameters())


@QUANTIZED
@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
def test_adapters_on_four_bits_have_the_gradients_of_whole_weights(kind: str, tmp_path: Path) -> None:
    folder = tiny.tiny_model(kind, tmp_path)
    quantized = load_model(folder, dtype="float32", quantize=True)
    lora = Lora(rank=4, targets=["q_proj", "gate_up_proj", "down_proj"])
    whole = LanguageModel(dequantized(quantized, folder), quantized.tokenizer, quantized.source, "cpu", "float32")
    found = []
    for lm in (attach(quantized, lora, seed=0), attach(whole, lora, seed=0)):
        torch.manual_seed(1)
        for name, parameter in lm.model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        found += [passed(lm)]
        with fused_layers(lm.model):
            found += [passed(lm)]
    *others, (logits, grads) = found
    for other, slopes in others:
        assert torch.allclose(other, logits, atol=1e-4)
        assert slopes.keys() == grads.keys()
        for name, grad in grads.items():
            assert torch.allclose(slopes[name], grad, rtol=1e-3, atol=1e-3 * float(grad.abs().max())), name


@QUANTIZED
def test_of_four_bits_nothing_is_kept_whole(tmp_path: Path) -> None:
    folder = tiny.tiny_model("qwen3_moe", tmp_path)
    lm = attach(load_model(folder, dtype="float32", quantize=True), Lora(rank=4, targets=["q_proj"]), seed=0)
    assert largest_kept(lm) < BYTES / 2
    packed = sum(weight.packed.nbytes for weight in lm.model.parameters() if hasattr(weight, "packed"))
    assert packed == 2 * 4 * (96 * 32 + 32 * 48) / 2  # in two layers four experts, half a byte a number


@QUANTIZED
def test_an_adapter_on_four_bits_is_trained_on(tmp_path: Path) -> None:
    lora = Lora(rank=4, targets=["q_proj", "gate_up_proj", "down_proj"])
    lm = attach(load_model(tiny.tiny_model("gpt_oss", tmp_path / "base"), dtype="float32", quantize=True), lora, seed=0)
    torch.manual_seed(1)
    for name, parameter in lm.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    lm.save(tmp_path / "adapter")
    again = load_model(tmp_path / "adapter", dtype="float32", quantize=True, train_adapter=True)
    (logits, grads), (others, slopes) = passed(lm), passed(again)
    assert torch.equal(others, logits)
    assert sum("experts" in name for name in slopes) == sum("experts" in name for name in grads) == 8
    with lm.model.disable_adapter(), torch.no_grad():
        assert not torch.allclose(lm.model(input_ids=IDS).logits, logits, atol=1e-2)


@QUANTIZED
def test_what_four_bits_hold_are_codes_and_constants(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("qwen3_moe", tmp_path, hidden_size=64), dtype="float32", quantize=True)
    named = dict(lm.model.named_parameters())
    experts, layer = named["model.layers.0.mlp.experts.down_proj"], named["model.layers.0.self_attn.q_proj.weight"]
    for weight in (experts, layer):
        codes, *constants = stored(weight)
        # Twice as many numbers as bytes; one constant of a byte for each 64 of them
        assert codes.dtype == torch.uint8 and codes.numel() == (4 * 64 * 48 if weight is experts else 32 * 64) / 2
        assert constants[0].dtype == torch.uint8 and constants[0].numel() == 2 * codes.numel() / 64
    assert stored(named["model.norm.weight"]) == [named["model.norm.weight"]]


@QUANTIZED
def test_four_bits_compute_in_compiled_layers_too(tmp_path: Path) -> None:
    lora = Lora(rank=4, targets=["q_proj", "gate_up_proj", "down_proj"])
    lm = attach(load_model(tiny.tiny_model("qwen3_moe", tmp_path), dtype="float32", quantize=True), lora, seed=0)
    logits, grads = passed(lm)
    for layer in layers_of(lm.model):
        layer.compile(backend="eager", dynamic=True)  # the tracing alone, which would fail
    others, slopes = passed(lm)
    assert torch.allclose(others, logits, atol=1e-4) and slopes.keys() == grads.keys()


def test_adapters_on_biases_are_left_to_peft(tmp_path: Path) -> None:
    folder = tiny.tiny_model("gpt_oss", tmp_path / "base")
    settings = LoraConfig(r=2, target_modules=[], target_parameters=["gate_up_proj_bias"], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), settings).save_pretrained(tmp_path / "adapter")
    lm = load_model(tmp_path / "adapter", dtype="float32", train_adapter=True)
    for name, parameter in lm.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    logits, _ = passed(lm)
    with fused_layers(lm.model):
        assert torch.allclose(passed(lm)[0], logits, atol=1e-5)
    if find_spec("bitsandbytes"):
        with pytest.raises(ModelError, match="in four bits cannot have an adapter on gate_up_proj_bias"):
            load_model(tmp_path / "adapter", dtype="float32", quantize=True)
