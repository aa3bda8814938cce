"""Merging model folders: exact arithmetic, adapters, ties, and shards that transformers reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny
from burnish.errors import MergeError
from burnish.merging import merge as merging
from burnish.merging.merge import merge_models
from burnish.merging.methods.linear import Linear
from burnish.merging.methods.slerp import Slerp
from burnish.merging.tensors import StoredTensors
from burnish.models.adapters import Lora, attach, fold
from burnish.models.load import load_model
from burnish.models.locate import fingerprint, locate


def two(kind: str, folder: Path) -> tuple[Path, Path]:
    return tiny.tiny_model(kind, folder / "a", seed=0), tiny.tiny_model(kind, folder / "b", seed=1)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_mean_of_two_models_loads_and_is_their_mean(kind: str, tmp_path: Path) -> None:
    a, b = two(kind, tmp_path)
    report = merge_models([locate(a), locate(b)], None, Linear(), tmp_path / "out")
    merged, one, other = tensors(tmp_path / "out"), tensors(a), tensors(b)
    assert merged.keys() == one.keys() and report.tensors == len(merged)
    for name in merged:
        assert torch.allclose(merged[name], (one[name] + other[name]) / 2, atol=1e-6), name
    lm = load_model(tmp_path / "out", dtype="float32")
    assert lm.chat.hash == load_model(a).chat.hash


def test_weight_one_gives_back_the_first_model(tmp_path: Path) -> None:
    a, b = two("llama", tmp_path)
    merge_models([locate(a), locate(b)], None, Linear(weights=[1.0, 0.0]), tmp_path / "out")
    merged, one = tensors(tmp_path / "out"), tensors(a)
    assert all(torch.equal(merged[name], one[name]) for name in one)
    assert fingerprint(tmp_path / "out") == fingerprint(a)


def test_an_adapter_is_merged_as_if_it_were_folded(tmp_path: Path) -> None:
    a, b = two("llama", tmp_path)
    lm = attach(load_model(a, dtype="float32"), Lora(rank=4, rslora=True), seed=0)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    lm.save(tmp_path / "adapter")
    fold(lm).save(tmp_path / "folded")
    for name in ("adapter", "folded"):
        merge_models([locate(tmp_path / name), locate(b)], None, Slerp(t=0.3), tmp_path / f"with-{name}")
    left, right = tensors(tmp_path / "with-adapter"), tensors(tmp_path / "with-folded")
    assert all(torch.allclose(left[name], right[name], atol=1e-5) for name in right)


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha_pattern": {"q_proj": 32}},
        {"rank_pattern": {"model.layers.0.mlp.up_proj": 2}},
        {"modules_to_save": ["lm_head"]},
    ],
)
def test_whatever_peft_can_write_is_merged_as_peft_does(settings: dict[str, object], tmp_path: Path) -> None:
    a, b = two("llama", tmp_path)
    base = AutoModelForCausalLM.from_pretrained(a, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", **settings)
    model = get_peft_model(base, config)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    merge_models([locate(tmp_path / "adapter"), locate(b)], None, Linear(weights=[1, 0]), tmp_path / "out")
    merged, theirs = tensors(tmp_path / "out"), model.merge_and_unload().state_dict()
    assert all(torch.allclose(merged[name], theirs[name], atol=1e-5) for name in merged)


def test_other_kinds_of_adapter_are_refused(tmp_path: Path) -> None:
    a, b = two("llama", tmp_path)
    attach(load_model(a, dtype="float32"), Lora(rank=2, dora=True), seed=0).save(tmp_path / "adapter")
    with pytest.raises(MergeError, match="only plain LoRA adapters") as caught:
        merge_models([locate(tmp_path / "adapter"), locate(b)], None, Linear(), tmp_path / "out")
    assert "fold" in caught.value.hint


@pytest.mark.parametrize(("kind", "target"), [("qwen3_moe", "down_proj"), ("llama", "lm_head")])
def test_adapters_on_what_files_do_not_have_are_refused(kind: str, target: str, tmp_path: Path) -> None:
    """Experts that are one tensor when loaded; a head that is the embedding."""
    base = tiny.tiny_model(kind, tmp_path / "base", tie_word_embeddings=True)
    attach(load_model(base, dtype="float32"), Lora(rank=2, targets=["q_proj", target]), seed=0).save(
        tmp_path / "adapter"
    )
    with pytest.raises(MergeError, match=r"it holds .*(experts|lm_head)") as caught:
        merge_models([locate(tmp_path / "adapter"), locate(base)], None, Linear(), tmp_path / "out")
    assert "fold" in caught.value.hint


def test_a_tied_head_meets_one_that_is_its_own(tmp_path: Path) -> None:
    tied, own = two("llama", tmp_path)
    loaded = tensors(tied)
    loaded.pop("lm_head.weight", None)  # a tied head is stored once, as the embedding
    save_file(loaded, tied / "model.safetensors", metadata={"format": "pt"})
    merge_models([locate(own), locate(tied)], None, Linear(), tmp_path / "out")
    merged = tensors(tmp_path / "out")
    expected = (tensors(own)["lm_head.weight"] + loaded["model.embed_tokens.weight"]) / 2
    assert torch.allclose(merged["lm_head.weight"], expected, atol=1e-6)


def test_shards_are_read_by_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = two("qwen3", tmp_path)
    merge_models([locate(a), locate(b)], None, Linear(), tmp_path / "one")
    monkeypatch.setattr(merging, "SHARD_BYTES", 20_000)
    merge_models([locate(a), locate(b)], None, Linear(), tmp_path / "many")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    one, many = (load_model(tmp_path / name, dtype="float32").model for name in ("one", "many"))
    for left, right in zip(one.parameters(), many.parameters(), strict=True):
        assert torch.equal(left, right)


def test_models_of_different_shape_are_refused(tmp_path: Path) -> None:
    a = tiny.tiny_model("llama", tmp_path / "a")
    b = tiny.tiny_model("llama", tmp_path / "b", intermediate_size=48)
    with pytest.raises(MergeError, match=r"mlp\S* has different shapes") as caught:
        merge_models([locate(a), locate(b)], None, Linear(), tmp_path / "out")
    assert "share architecture" in caught.value.hint


def test_models_of_different_depth_are_refused(tmp_path: Path) -> None:
    a = tiny.tiny_model("llama", tmp_path / "a")
    b = tiny.tiny_model("llama", tmp_path / "b", num_hidden_layers=3)
    with pytest.raises(MergeError, match="has no tensor model.layers.2"):
        merge_models([locate(a), locate(b)], None, Linear(), tmp_path / "out")


def test_the_merge_says_what_it_is_made_of(tmp_path: Path) -> None:
    a, b = two("llama", tmp_path)
    merge_models([locate(a), locate(b)], None, Slerp(t=0.25), tmp_path / "out")
    said = json.loads((tmp_path / "out" / "merge.json").read_text())
    assert said["inputs"] == [fingerprint(a), fingerprint(b)]
    assert (said["method"], said["settings"]) == ("slerp", {"t": 0.25})


def test_files_that_lie_beside_a_models_own_are_not_merged(tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path)
    own = StoredTensors(locate(folder)).shapes
    save_file({"layers.0.attention.wq.weight": torch.ones(2, 2)}, folder / "consolidated.safetensors")
    assert StoredTensors(locate(folder)).shapes == own
