"""Finding and opening models: every broken folder says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

import tiny
from burnish.errors import ModelError
from burnish.models import locate as locating
from burnish.models.adapters import Lora, attach
from burnish.models.load import check, load_model, load_tokenizer
from burnish.models.locate import fingerprint, locate, size_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.tiny_model("llama", tmp_path / "model")


@pytest.mark.parametrize("kind", tiny.MORE)
def test_models_of_all_families_load_and_save(kind: str, tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model(kind, tmp_path / "a"), dtype="float32")
    assert check(str(tmp_path / "a")) == []
    lm.save(tmp_path / "b")
    again = load_model(tmp_path / "b", dtype="float32")
    assert again.chat.hash == lm.chat.hash
    for (name, before), after in zip(lm.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(before, after), name


def test_pebble_is_found_by_name() -> None:
    source = locate("pebble")
    assert source.path is not None and (source.path / "config.json").is_file()
    assert check("pebble") == []


def test_what_is_neither_a_folder_nor_a_hub_id() -> None:
    for name in ("my-model", "./nowhere", "/nowhere", "a/b/c"):
        with pytest.raises(ModelError, match="no such model"):
            locate(name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Hub that has the model someone/tiny at commit c0ffee, with nothing of it downloaded yet."""
    snapshot = tmp_path / "cache" / "c0ffee"

    def download(name: str, revision: str | None, local_files_only: bool) -> str:
        assert local_files_only
        if name != "someone/tiny" or not snapshot.is_dir():
            raise LocalEntryNotFoundError("not downloaded")
        return str(snapshot)

    def ask(self: object, name: str, revision: str | None, timeout: float) -> SimpleNamespace:
        if name != "someone/tiny":
            raise OSError("404")
        return SimpleNamespace(sha="c0ffee")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", ask)
    monkeypatch.setattr(locating, "_of_hub", locating._of_hub.__wrapped__)  # without its memory
    return snapshot


def test_a_model_of_the_hub_is_one_model_before_and_after_its_download(hub: Path) -> None:
    before = locate("someone/tiny")
    assert (before.path, before.name, before.revision) == (None, "someone/tiny", "c0ffee")
    name = fingerprint("someone/tiny")

    tiny.tiny_model("llama", hub)
    weights = (hub / "model.safetensors").rename(hub.parent / "weights")
    half = locate("someone/tiny")  # a plan has looked at the tokenizer
    assert (half.path, half.revision, fingerprint("someone/tiny")) == (None, "c0ffee", name)
    assert size_of("someone/tiny") is None

    weights.rename(hub / "model.safetensors")
    whole = locate("someone/tiny")
    assert (whole.path, whole.revision, fingerprint("someone/tiny")) == (hub, None, name)
    assert load_model("someone/tiny", dtype="float32").context == 256


def test_a_model_that_the_hub_does_not_have(hub: Path) -> None:
    with pytest.raises(ModelError, match="someone/else is not on this machine, and the Hub cannot give it"):
        locate("someone/else")


def test_a_folder_that_lacks_one_of_its_shards(folder: Path) -> None:
    lm = load_model(folder, dtype="float32")
    lm.save(folder.parent / "sharded", max_shard="40KB")
    shards = sorted((folder.parent / "sharded").glob("*.safetensors"))
    assert len(shards) > 1 and check(str(folder.parent / "sharded")) == []
    shards[-1].unlink()
    with pytest.raises(ModelError, match=f"lacks some of its weights: {shards[-1].name}"):
        locate(folder.parent / "sharded")


def test_an_adapter_finds_its_base_where_it_has_moved(folder: Path, tmp_path: Path) -> None:
    lm = attach(load_model(folder, dtype="float32"), Lora(rank=2), seed=0)
    lm.save(tmp_path / "adapter")
    name = fingerprint(tmp_path / "adapter")
    # base and adapter moved together
    (tmp_path / "elsewhere").mkdir()
    folder.rename(tmp_path / "elsewhere" / "model")
    (tmp_path / "adapter").rename(tmp_path / "elsewhere" / "adapter")
    adapter = tmp_path / "elsewhere" / "adapter"
    assert fingerprint(adapter) == name and load_model(adapter).source.adapter
    # the base alone, and this process was given its new place
    moved = (tmp_path / "elsewhere" / "model").rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="is not at .* any more"):
        locate(adapter)
    fingerprint(moved)
    assert fingerprint(adapter) == name and load_model(adapter).source.adapter
    # another model at the old place is not mistaken for it
    tiny.tiny_model("llama", tmp_path / "elsewhere" / "model", seed=1)
    assert locate(adapter).weights.path == moved


def test_a_folder_without_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="no config.json"):
        locate(folder)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        locate(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle can run code") as caught:
        locate(folder)
    assert "safe_serialization" in caught.value.hint


def test_a_folder_without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        locate(folder)


def test_a_folder_without_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    (problem,) = check(str(folder))
    assert problem.what == "the tokenizer has no chat template" and "instruct" in problem.hint


def test_a_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        load_tokenizer(folder)


def test_broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)


def test_a_model_that_is_no_causal_language_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    (problem,) = check(str(folder))
    assert problem.what == "BertForMaskedLM is no causal language model"


def test_an_adapter_that_does_not_name_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter_model.safetensors"):
        locate(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="which model it belongs to"):
        locate(tmp_path)


MY_MODEL = """
from transformers import LlamaConfig, LlamaForCausalLM

class MyConfig(LlamaConfig):
    model_type = "mine"

class MyModel(LlamaForCausalLM):
    config_class = MyConfig
"""


def test_a_models_own_code_runs_only_when_asked_for_by_name(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "mine", "architectures": ["MyModelForCausalLM"],
           "auto_map": {"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.MyModel"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config, **own}))
    (folder / "mine.py").write_text(MY_MODEL)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert f"trust:{folder}" in caught.value.hint
    lm = load_model(f"trust:{folder}", dtype="float32")
    assert type(lm.model).__name__ == "MyModel"
    lm.save(tmp_path / "tuned")
    assert type(load_model(tmp_path / "tuned").model).__name__ == "MyModel"


def test_the_fingerprint_is_of_the_bytes_that_matter(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(folder)
    (folder / "notes.txt").write_text("nothing that the model is made of")
    assert fingerprint(folder) == before
    assert fingerprint(tiny.tiny_model("llama", tmp_path / "twin")) == before
    for name in ("chat_template.jinja", "added_tokens.json", "modeling_mine.py", "spiece.model"):
        (folder / name).write_text("{}")
        after = fingerprint(folder)
        assert after != before, name
        before = after


def test_sizes_are_read_from_headers(folder: Path) -> None:
    size = size_of(folder)
    parameters = sum(weight.numel() for weight in load_model(folder, dtype="float32").model.parameters())
    assert size is not None and (size.layers, size.bytes) == (2, 4 * size.parameters)
    assert size.parameters == parameters
    assert size_of("./nowhere") is None


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_an_adapter_is_loaded_in_the_models_number_format(kind: str, folder: Path, tmp_path: Path) -> None:
    attach(load_model(folder, dtype=kind), Lora(rank=2), seed=0).save(tmp_path / "adapter")
    lm = load_model(tmp_path / "adapter", dtype=kind, train_adapter=True)
    found = {value.dtype for name, value in lm.model.named_parameters() if "lora_" in name}
    assert found == {getattr(torch, kind)}


def test_an_adapter_whose_file_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """peft would leave them as they begin, with a warning."""
    attach(load_model(folder, dtype="float32"), Lora(rank=2), seed=0).save(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    held = load_file(path)
    held.pop(next(name for name in held if "q_proj.lora_B" in name))
    save_file(held, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks some of its weights.*q_proj\.lora_B"):
        load_model(tmp_path / "adapter", dtype="float32")
