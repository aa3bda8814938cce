"""Adapters: no change at the start, only the adapter trains, peft reads what is saved, folding is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import tiny
from burnish.errors import ModelError
from burnish.models.adapters import Lora, attach, fold
from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel, load_model
from burnish.models.logprobs import head_of, token_logprobs

IDS = torch.arange(10, 30)[None]


def logits(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(input_ids=IDS).logits


def stirred(lm: LanguageModel) -> LanguageModel:
    """An adapter that has learned something."""
    torch.manual_seed(3)
    for name, parameter in lm.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return lm


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_fresh_adapter_changes_nothing_and_alone_is_trained(kind: str, tmp_path: Path) -> None:
    base = load_model(tiny.tiny_model(kind, tmp_path), dtype="float32")
    before = logits(base)
    lm = attach(base, Lora(rank=4), seed=0)
    assert torch.equal(logits(lm), before)
    trained = {name for name, parameter in lm.model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)


def test_the_adapters_start_follows_from_the_seed_and_leaves_the_global_stream_alone(tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second, other = (
        dict(attach(load_model(folder, dtype="float32"), Lora(rank=4), seed).model.named_parameters())
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    down = next(name for name in first if "lora_A" in name)
    assert torch.equal(first[down], second[down]) and not torch.equal(first[down], other[down])


def test_saved_adapters_are_read_by_peft_and_by_us(tmp_path: Path) -> None:
    folder = tiny.tiny_model("qwen3", tmp_path / "base")
    lm = stirred(attach(load_model(folder, dtype="float32"), Lora(rank=4), seed=0))
    lm.save(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter")
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=IDS).logits, logits(lm), atol=1e-5)
    again = load_model(tmp_path / "adapter", dtype="float32")
    assert again.source.adapter and torch.equal(logits(again), logits(lm))


@pytest.mark.parametrize("settings", [{}, {"rslora": True}, {"dora": True}, {"targets": ["q_proj"], "alpha": 3.0}])
def test_folding_keeps_the_answers(settings: dict[str, object], tmp_path: Path) -> None:
    base = load_model(tiny.tiny_model("llama", tmp_path), dtype="float32")
    plain = logits(base)
    lm = stirred(attach(base, Lora(rank=4, **settings), seed=0))  # type: ignore[arg-type]
    folded = fold(lm)
    assert not hasattr(folded.model, "peft_config")
    assert torch.allclose(logits(folded), logits(lm), atol=1e-4)
    assert not torch.allclose(logits(folded), plain, atol=1e-2)


def test_a_target_that_no_matrix_has_is_an_error(tmp_path: Path) -> None:
    base = load_model(tiny.tiny_model("llama", tmp_path), dtype="float32")
    with pytest.raises(ModelError, match="adapter does not fit") as caught:
        attach(base, Lora(targets=["nowhere"]), seed=0)
    assert "all-linear" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"init": "pissa", "dora": True}, "leave `dora`"), ({"init": "pissa", "quantize": True}, "leave `quantize`"),
     ({"init": "orthogonal", "rank": 3}, "even rank")],
)  # fmt: skip
def test_settings_that_contradict_each_other(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Lora(**settings)


def test_a_rank_of_more_singular_values_than_there_are(tmp_path: Path) -> None:
    base = load_model(tiny.tiny_model("llama", tmp_path), dtype="float32")  # keys of 16 x 32
    with pytest.raises(ModelError, match="pissa takes 20 singular values, and k_proj has 16"):
        attach(base, Lora(rank=20, init="pissa"), seed=0)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "lora", [Lora(rank=4, init="pissa"), Lora(rank=4, init="orthogonal"), Lora(rank=4, also=["embeddings", "head"]),
             Lora(rank=4, init="pissa", also=["embeddings", "head"])],
    ids=["pissa", "orthogonal", "also", "pissa and also"],
)  # fmt: skip
def test_a_start_of_another_kind_is_saved_and_folded_exactly(kind: str, tied: bool, lora: Lora, tmp_path: Path) -> None:
    base = load_model(tiny.tiny_model(kind, tmp_path / "base", tie_word_embeddings=tied), dtype="float32")
    before = logits(base)
    lm = attach(base, lora, seed=0)
    assert torch.allclose(logits(lm), before, atol=1e-4)
    torch.manual_seed(3)
    for parameter in lm.model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.02
    after = logits(lm)
    assert not torch.allclose(after, before, atol=1e-2)
    lm.save(tmp_path / "adapter")
    assert torch.allclose(logits(load_model(tmp_path / "adapter", dtype="float32")), after, atol=1e-4)
    fold(lm).save(tmp_path / "whole")
    whole = load_model(tmp_path / "whole", dtype="float32")
    assert torch.allclose(logits(whole), after, atol=1e-4)
    assert bool(whole.config.tie_word_embeddings) == tied


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_an_adapter_on_the_head_learns_and_is_folded(kind: str, tied: bool, tmp_path: Path) -> None:
    base = load_model(tiny.tiny_model(kind, tmp_path / "base", tie_word_embeddings=tied), dtype="float32")
    lm = stirred(attach(base, Lora(rank=4, targets=["q_proj", "lm_head"]), seed=0))
    lm.model.train()
    row = Rendered(tuple(IDS[0].tolist()), (0.0,) * 9 + (1.0,) * 11, ())
    expected = lm.model(input_ids=IDS).logits.log_softmax(-1)[0, range(8, 19), IDS[0, 9:]]
    found = token_logprobs(lm.model, lay_out([row], "cpu", trees=True))
    assert torch.allclose(found, expected, atol=1e-4)
    learned = [value for name, value in lm.model.named_parameters() if "lora_" in name]
    plain, mine = (torch.autograd.grad(values.sum(), learned) for values in (expected, found))
    assert all(torch.allclose(a, b, atol=1e-3, rtol=1e-4) and a.norm() > 0 for a, b in zip(plain, mine, strict=True))
    after = logits(lm)
    fold(lm).save(tmp_path / "whole")
    whole = load_model(tmp_path / "whole", dtype="float32")
    assert torch.allclose(logits(whole), after, atol=1e-4)
    assert not whole.config.tie_word_embeddings  # an adapter on one of the two makes them two


def test_an_adapter_on_the_head_that_cannot_be_computed_is_an_error(tmp_path: Path) -> None:
    base = load_model(tiny.tiny_model("llama", tmp_path), dtype="float32")
    lm = attach(base, Lora(rank=4, targets=["lm_head"], dora=True), seed=0)
    with pytest.raises(ModelError, match="head has an adapter that is not plain LoRA"):
        head_of(lm.model)


def test_four_bits_hold_the_frozen_matrices(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny.tiny_model("llama", tmp_path / "base", hidden_size=64)
    quantized = load_model(folder, dtype="float32", quantize=True)
    lm = stirred(attach(quantized, Lora(rank=4, quantize=True), seed=0))
    held = {str(parameter.dtype) for parameter in lm.model.parameters() if not parameter.requires_grad}
    assert "torch.uint8" in held
    assert all("lora_" in name for name, parameter in lm.model.named_parameters() if parameter.requires_grad)
    lm.save(tmp_path / "adapter")
    # served on the whole matrices, with the adapter as it was trained
    served = load_model(tmp_path / "adapter", dtype="float32")
    assert {parameter.dtype for parameter in served.model.parameters()} == {torch.float32}
    trained = dict(lm.model.named_parameters())
    found = {name: value for name, value in served.model.named_parameters() if "lora_" in name}
    assert found and all(torch.equal(value, trained[name]) for name, value in found.items())
