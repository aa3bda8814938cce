"""Open models: check their files, load tokenizer and weights, save them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from burnish import hardware
from burnish.errors import BurnishError, ModelError, Problem
from burnish.log import note
from burnish.models.chat import ChatTemplate
from burnish.models.locate import TOKENIZER_FILES, TRUST, TRUSTED, ModelSource, locate, short, write_pedigree


def check(ref: str) -> list[Problem]:
    """All that can be known without loading weights: files, tokenizer, chat template, a causal language model."""
    try:
        source = locate(ref)
        if source.weights.path is not None:
            _check_architecture(source.weights)
        ChatTemplate(load_tokenizer(ref))
    except BurnishError as error:
        return [Problem(error.what, error.where, error.hint)]
    return []


def _check_architecture(source: ModelSource) -> None:
    assert source.path is not None
    try:
        config = json.loads((source.path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"config.json is broken: {error}", where=source.ref) from None
    names = config.get("architectures") or []
    if names and not any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names):
        raise ModelError(f"{', '.join(names)} is no causal language model", where=f"{source.ref}/config.json")


def load_tokenizer(ref: str | Path) -> Any:
    """The tokenizer of a model, an adapter's own where it has one. Raises ModelError when it cannot be read."""
    from transformers import AutoTokenizer

    source = locate(ref)
    if source.adapter and source.path and not any((source.path / name).is_file() for name in TOKENIZER_FILES):
        source = source.weights
    try:
        return AutoTokenizer.from_pretrained(source.name, revision=source.revision, trust_remote_code=source.trusted)
    except Exception as error:  # transformers raises many kinds for a folder it cannot use
        hint = _trust_hint(error, source)
        raise ModelError(f"the tokenizer cannot be read: {short(error)}", where=source.name, hint=hint) from None


def template_hash(ref: str | Path) -> str:
    """Hash of a model's chat template."""
    return ChatTemplate(load_tokenizer(ref)).hash


@dataclass
class LanguageModel:
    """A loaded causal language model with its tokenizer and chat template."""

    model: Any
    tokenizer: Any
    source: ModelSource
    device: str
    dtype: str

    @cached_property
    def chat(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)

    @property
    def config(self) -> Any:
        return self.model.config.get_text_config()

    @property
    def context(self) -> int:
        """Most positions the model was made for."""
        return int(getattr(self.config, "max_position_embeddings", 0) or self.tokenizer.model_max_length)

    @cached_property
    def trees(self) -> bool:
        """Whether rows may share what they begin with, exactly; said once when they may not."""
        from burnish.models.packing import why_not

        reason = why_not(self.model)
        if reason:
            note(f"{self.source.ref}: {reason}, so rows are padded and nothing is shared; results are the same")
        return not reason

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters())

    def save(self, folder: Path, max_shard: str = "4GB") -> None:
        """Write safetensors, tokenizer, chat template and generation settings; of a PEFT model the adapter alone."""
        base = self.source.weights
        if hasattr(self.model, "peft_config"):
            for settings in self.model.peft_config.values():
                settings.base_model_name_or_path = base.name
        self.model.save_pretrained(folder, max_shard_size=max_shard)
        self.tokenizer.save_pretrained(folder)
        if hasattr(self.model, "peft_config"):
            write_pedigree(folder, base)
        if self.source.trusted:
            (folder / TRUSTED).write_text(f"made from {self.source.ref}, whose own code may run\n", encoding="utf-8")


def load_model(ref: str | Path, *, dtype: str = "auto", device: str = "auto", train_adapter: bool = False
               ) -> LanguageModel:  # fmt: skip
    """Load a model onto a device. Raises ModelError with the reason when it cannot be.

    `dtype` auto: what `burnish doctor` says for the device. `train_adapter`: leave an adapter's weights trainable.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar per file would break into the run's own lines
    logging.set_verbosity_error()
    source = locate(ref)
    where, _ = hardware.device(device)
    kind, _ = hardware.dtype(dtype, where)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.weights.name, revision=source.weights.revision, dtype=kind, use_safetensors=True,
            trust_remote_code=source.trusted,
            # Measured on Pebble, rows of 60 tokens: twice as fast as torch's fused attention on a CPU.
            attn_implementation="eager" if where == "cpu" else None,
        ).to(where)  # fmt: skip
        if source.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, source.name, is_trainable=train_adapter)
    except Exception as error:
        hint = _trust_hint(error, source) or "`burnish doctor` shows the versions installed"
        raise ModelError(f"the model cannot be loaded: {short(error)}", where=source.name, hint=hint) from error
    model.eval()
    return LanguageModel(model, load_tokenizer(ref), source, where, kind)


def _trust_hint(error: Exception, source: ModelSource) -> str:
    """What to write when a model wants to run code of its own."""
    return f"if you trust its code, name it `{TRUST}{source.ref}`" if "trust_remote_code" in str(error) else ""
