"""What is computed around a model's layers is what the model computes, and other models are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
)

import tiny
from burnish.errors import ModelError
from burnish.models.agreement import refuse_other_logits
from burnish.models.chat import Rendered
from burnish.models.fusing import fused_layers
from burnish.models.layout import lay_out
from burnish.models.load import check, load_model
from burnish.models.logprobs import freeze_unread, token_logprobs
from burnish.models.packing import refuse_other_padding, why_not

SIZES: dict[str, Any] = {**tiny.SIZES, "vocab_size": 320, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MAMBA = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16}
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("cohere", {"logit_scale": 0.3}),
    ("granite", {"logits_scaling": 3.0}),
    ("hyperclovax", {"logits_scaling": 3.0}),
    ("falcon_h1", {"lm_head_multiplier": 0.3, **MAMBA}),
    ("recurrent_gemma", {"logits_soft_cap": 3.0}),
    ("gemma2", {"final_logit_softcapping": 3.0, "head_dim": 8}),
    ("llama4_text", {"intermediate_size_mlp": 64, "head_dim": 8, "num_local_experts": 2}),
    ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
]
"""What families put between hidden states and logits, or where they keep their layers."""
ROW = Rendered(tuple(range(10, 30)), (0.0,) * 6 + (1.0,) * 14, ())


def made(family: str, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, **settings})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3) if weight.ndim > 1 else None
    return model


def of_itself(model: Any) -> torch.Tensor:
    """The learned tokens' log-probabilities by the model's own forward pass."""
    ids = torch.tensor([ROW.ids])
    return model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)[range(5, 19), ids[0, 6:]]


@pytest.mark.parametrize(("family", "settings"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_families_that_are_known(family: str, settings: dict[str, Any]) -> None:
    model = made(family, settings)
    refuse_other_logits(model)
    with torch.no_grad():
        found = token_logprobs(model, lay_out([ROW], "cpu", trees=False))
        assert torch.allclose(found, of_itself(model), atol=1e-4)


@pytest.mark.parametrize("kind", tiny.MORE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rounding_is_no_difference(kind: str, dtype: str, tmp_path: Path) -> None:
    assert load_model(tiny.tiny_model(kind, tmp_path), dtype=dtype).trees == (kind != "lfm2")


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("llama", tmp_path), dtype="float32")
    plain = type(lm.model).forward

    def hot(self: Any, *args: Any, **named: Any) -> Any:
        out = plain(self, *args, **named)
        out.logits = out.logits * 1.1
        return out

    lm.model.forward = hot.__get__(lm.model)
    with pytest.raises(ModelError, match="LlamaForCausalLM has more between its hidden states and its logits"):
        _ = lm.trees
    with pytest.raises(ModelError, match="RobertaForCausalLM"):  # a layer and a norm before its head
        refuse_other_logits(made("roberta", {"is_decoder": True}))


def test_a_family_that_padding_changes_is_refused() -> None:
    sizes = {"dim_model": 32, "dim_head": 8, "dim_ff": 64, "prompt_types": 4, "prompt_length": 4}
    model = made("cpmant", sizes)  # adds tokens before the row, and shifts its mask by them
    refuse_other_logits(model)
    assert why_not(model)
    with pytest.raises(ModelError, match="CpmAntForCausalLM reads a row otherwise when it is padded"):
        refuse_other_padding(model)
    refuse_other_padding(made("mamba", {"state_size": 8}))


@pytest.mark.parametrize("kind", ["prompt", "activated"])
def test_adapters_outside_of_the_layers_are_refused(kind: str, tmp_path: Path) -> None:
    base = tiny.tiny_model("qwen3", tmp_path / "base")
    settings: Any = PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    if kind == "activated":
        settings = LoraConfig(r=4, target_modules="all-linear", alora_invocation_tokens=[5, 6], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="outside of the layers"):
        load_model(tmp_path / "adapter", dtype="float32")


@pytest.mark.parametrize("labels", [2, 5])  # of two transformers writes nothing down
def test_a_reward_model_gives_one_number(labels: int, tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path)
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels).save_pretrained(folder)
    assert [problem.what for problem in check(str(folder), scores=True)] == [
        f"the model gives {labels} numbers, and a reward model gives one"
    ]
    with pytest.raises(ModelError, match=f"gives {labels} numbers"):
        load_model(folder, gives="scores")


def test_a_norms_result_that_is_changed_in_place_is_not_made_again() -> None:
    """Routers of experts multiply their input by noise, in its place."""
    model = made("mixtral", {"router_jitter_noise": 0.3, "num_local_experts": 2}).train()
    found = []
    for fused in (False, True):
        model.zero_grad(set_to_none=True)
        torch.manual_seed(7)
        with fused_layers(model, fused):
            token_logprobs(model, lay_out([ROW], "cpu", trees=True)).sum().backward()
        found.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    assert all(torch.allclose(found[0][name], grad, atol=1e-4, rtol=1e-3) for name, grad in found[1].items())


@pytest.mark.parametrize(("rope", "steady"), [
    ({"rope_type": "longrope", "original_max_position_embeddings": 64, "short_factor": [1.0] * 4,
      "long_factor": [2.0] * 4, "rope_theta": 1e4}, 64),
    ({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, 256),
    ({"rope_type": "default", "rope_theta": 1e4}, None),
])  # fmt: skip
def test_up_to_where_rows_are_read_alike(rope: dict[str, Any], steady: int | None, tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path, rope_parameters=rope)
    lm = load_model(folder, dtype="float32")
    assert (lm.steady, lm.longest) == (steady, steady or 256)


def test_what_text_does_not_pass_through_does_not_learn() -> None:
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    text = {**SIZES, "head_dim": 8, "layer_types": ["full_attention"] * 2}
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))
    count = sum(weight.numel() for weight in model.parameters())
    frozen = freeze_unread(model)
    learned = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert 0 < frozen < count and learned
    assert not any("vision" in name or "projector" in name for name in learned)
    assert any("embed_tokens" in name for name in learned) and any("down_proj" in name for name in learned)
    assert json.dumps(sorted(learned)) and freeze_unread(model) == 0
