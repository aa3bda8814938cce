"""Open models: check their files, load tokenizer and weights, save them again."""

from __future__ import annotations

import json
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from burnish import hardware
from burnish.errors import BurnishError, ModelError, Problem
from burnish.log import note_once
from burnish.models.chat import ChatTemplate
from burnish.models.locate import (
    ADAPTER,
    TOKENIZER_FILES,
    TRUST,
    TRUSTED,
    ModelSource,
    is_url,
    locate,
    short,
    tensor_header,
    weight_files,
    write_pedigree,
)
from burnish.models.targets import EXPERTS, WORTH_SAYING


def check(ref: str, *, chat: bool = True, scores: bool = False) -> list[Problem]:
    """All that can be known without loading weights: files, tokenizer, chat template, a causal language model.

    Args:
        chat: whether it is to read conversations. scores: whether it may be a reward model.
    """
    if is_url(ref):
        return []
    try:
        source = locate(ref)
        for path in (source.path, source.weights.path):
            for file in weight_files(path) if path else ():
                tensor_header(file)
        if source.weights.path is not None:
            if scores and gives_scores(source):
                _refuse_several_scores(source.weights)
            else:
                _check_architecture(source.weights)
        tokenizer = load_tokenizer(ref)
        if chat:
            ChatTemplate(tokenizer)
    except BurnishError as error:
        return [Problem(error.what, error.where, error.hint)]
    return []


def _refuse_several_scores(source: ModelSource) -> None:
    """Refuse a reward model that gives more than one number; the base of an adapter gives none yet."""
    if source.path is None or not gives_scores(source):
        return
    config = json.loads((source.path / "config.json").read_text(encoding="utf-8"))
    labels = config.get("num_labels") or len(config.get("id2label") or "ab")  # two where transformers leaves it out
    if labels != 1:
        raise ModelError(f"the model gives {labels} numbers, and a reward model gives one",
                         where=f"{source.ref}/config.json")  # fmt: skip


def _check_architecture(source: ModelSource) -> None:
    assert source.path is not None
    try:
        config = json.loads((source.path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"config.json is broken: {error}", where=source.ref) from None
    names = config.get("architectures") or []
    if names and not any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names):
        raise ModelError(f"{', '.join(names)} is no causal language model", where=f"{source.ref}/config.json")
    family = config.get("model_type")
    if family in _families() or "auto_map" in config:
        return
    raise ModelError(f"transformers has no causal language model of the family {family!r}", where=f"{source.ref}"
                     "/config.json", hint="of a model that sees or hears, take the text model alone")  # fmt: skip


@cache
def _families() -> frozenset[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def load_tokenizer(ref: str | Path) -> Any:
    """The tokenizer of a model, an adapter's own where it has one. Raises ModelError when it cannot be read."""
    from transformers import AutoTokenizer

    _quieten()
    source = locate(ref)
    if source.adapter and source.path and not any((source.path / name).is_file() for name in TOKENIZER_FILES):
        source = source.weights
    try:
        return AutoTokenizer.from_pretrained(source.name, revision=source.revision, trust_remote_code=source.trusted)
    except Exception as error:  # transformers raises many kinds for a folder it cannot use
        hint = _trust_hint(error, source)
        raise ModelError(f"the tokenizer cannot be read: {short(error)}", where=source.name, hint=hint) from None


def _quieten() -> None:
    """No lines of transformers and peft among a run's own: a bar for each file, a warning for each row beyond the
    context, which is counted, and for each name of theirs that is going away."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module=r"(transformers|peft)\.")


def template_hash(ref: str | Path) -> str:
    """Hash of a model's chat template."""
    return ChatTemplate(load_tokenizer(ref)).hash


Gives = Literal["text", "scores"]
"""What a model gives: tokens, or one number for all that was said so far (a reward model)."""


@dataclass
class LanguageModel:
    """A loaded causal language model with its tokenizer and chat template."""

    model: Any
    tokenizer: Any
    source: ModelSource
    device: str
    dtype: str
    gives: Gives = "text"
    start: TemporaryDirectory[str] | None = None
    """Where an adapter that did not start at zero was saved before it trained."""

    @cached_property
    def chat(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer; without a chat template, the one that ends a text, if there is one."""
        if self.tokenizer.chat_template:
            return self.chat.stop_ids
        return () if self.tokenizer.eos_token_id is None else (int(self.tokenizer.eos_token_id),)

    @property
    def config(self) -> Any:
        return self.model.config.get_text_config()

    @property
    def context(self) -> int:
        """Most positions the model was made for."""
        return int(getattr(self.config, "max_position_embeddings", 0) or self.tokenizer.model_max_length)

    @cached_property
    def trees(self) -> bool:
        """Whether rows may share what they begin with, exactly; said once when they may not.

        Raises ModelError for a model whose log-probabilities would be others than its own, or depend on padding.
        """
        from burnish.models.agreement import refuse_other_logits
        from burnish.models.packing import refuse_other_padding, why_not

        if self.gives == "text":
            refuse_other_logits(self.model)
        reason = why_not(self.model)
        if reason:
            refuse_other_padding(self.model)
            note_once(f"{self.source.ref}: {reason}, so rows are padded and nothing is shared; results are the same")
        return not reason

    @property
    def steady(self) -> int | None:
        """Up to which length rows are read the same whatever is read beside them: families with such rotations turn
        all rows of a pass by the longest of them. None: whatever their length."""
        found = getattr(self.config, "rope_parameters", None) or getattr(self.config, "rope_scaling", None) or {}
        kinds = [found, *(value for value in found.values() if isinstance(value, dict))]
        for kind in kinds:
            if kind.get("rope_type", kind.get("type")) in ("longrope", "dynamic"):
                before = kind.get("original_max_position_embeddings")
                return int(before or getattr(self.config, "original_max_position_embeddings", None) or self.context)
        return None

    @property
    def longest(self) -> int:
        """Most tokens of a row that can be trained on."""
        return min(self.context, self.steady or self.context)

    @property
    def parameters(self) -> int:
        return sum(map(_numbers, self.model.parameters()))

    @property
    def operations(self) -> int:
        """Of a training step for a token: 2 a weight forward, 2 for the hidden states backward, 2 for weights that
        learn. Rows of an embedding are looked up, which is none; of experts those that a token goes through count."""
        from burnish.models.experts import chosen_share

        embedding, head = self.model.get_input_embeddings().weight, self.model.get_output_embeddings()
        idle = 0 if head is not None and head.weight is embedding else _numbers(embedding)
        share = chosen_share(self.model)
        every = sum(_numbers(weight) * (6 if weight.requires_grad else 4) * (share if EXPERTS in name else 1)
                    for name, weight in self.model.named_parameters() if "original_module" not in name)  # fmt: skip
        return round(every) - idle * (6 if embedding.requires_grad else 4)

    def save(self, folder: Path, max_shard: str = "4GB") -> None:
        """Write safetensors, tokenizer, chat template and generation settings; of a PEFT model the adapter alone."""
        base = self.source.weights
        if hasattr(self.model, "peft_config"):
            for settings in self.model.peft_config.values():
                settings.base_model_name_or_path = base.name
        start = {"path_initial_model_for_weight_conversion": self.start.name} if self.start else {}
        self.model.save_pretrained(folder, max_shard_size=max_shard, **start)
        self.tokenizer.save_pretrained(folder)
        if hasattr(self.model, "peft_config"):
            if self.start:
                self._add_whole_parts(folder)
            write_pedigree(folder, base)
        if self.source.trusted:
            (folder / TRUSTED).write_text(f"made from {self.source.ref}, whose own code may run\n", encoding="utf-8")

    def _add_whole_parts(self, folder: Path) -> None:
        """Add what trains whole beside an adapter to its file: peft leaves it out of one that is saved as the
        difference to its start."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import load_file, save_file

        path = folder / "adapter_model.safetensors"
        held = load_file(path)
        every = get_peft_model_state_dict(self.model)
        whole = {name: value.clone() for name, value in every.items() if "lora_" not in name}  # two may be one
        save_file({**whole, **held}, path, metadata={"format": "pt"})


def _numbers(weight: Any) -> int:
    """How many numbers a tensor holds, of which two may be in a byte (four bits)."""
    return int(weight.numel()) * (1 if weight.is_floating_point() else 2)


def load_model(ref: str | Path, *, dtype: str = "auto", device: str = "auto", train_adapter: bool = False,
               gives: Gives = "text", quantize: bool = False) -> LanguageModel:  # fmt: skip
    """Load a model onto a device. Raises ModelError with the reason when it cannot be.

    Args:
        dtype: auto is what `burnish doctor` says for the device.
        train_adapter: leave an adapter's weights trainable.
        gives: `scores` puts a head of one number on a model that gives text, zero until it is trained, and takes the
            head of a reward model as it is.
        quantize: hold the matrices in four bits (NF4, arXiv:2305.14314), for an adapter to be trained on.
    """
    import logging

    from burnish.models.experts import compute_packed
    from burnish.models.widened import widen_products

    _quieten()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it warns of a kernel not used here
    source = locate(ref)
    scores = gives_scores(source)
    if scores and gives == "text":
        raise ModelError("a reward model gives scores and no text", where=source.ref, hint="name the model it was"
                         " made from")  # fmt: skip
    where, _ = hardware.device(device)
    kind, _ = hardware.dtype(dtype, where)
    if where == "cpu" and kind == "bfloat16":
        widen_products()
    if gives == "scores":
        _refuse_several_scores(source.weights)
    try:
        model = _read(source, kind, where, gives, quantize)
        if gives == "scores" and not gives_scores(source.weights):
            model.score.weight.data.zero_()
        if source.adapter:
            model = _adapted(model, source, train_adapter)
        if quantize:
            compute_packed(model)
    except ModelError:
        raise
    except Exception as error:
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                "the model's weights have other shapes than its config.json says",
                where=source.name,
                hint="files of two models lie side by side, or config.json was changed",
            ) from error
        hint = _trust_hint(error, source) or "`burnish doctor` shows the versions installed"
        raise ModelError(f"the model cannot be loaded: {short(error)}", where=source.name, hint=hint) from error
    model.eval()
    if gives == "scores" and not hasattr(model.get_base_model() if source.adapter else model, "score"):
        raise ModelError(f"{type(model).__name__} has no head called `score`", where=source.name,
                         hint="reward models of decoder families have one")  # fmt: skip
    if quantize:
        _say_whole(model)
    tokenizer = load_tokenizer(ref)
    if gives == "scores" and model.config.pad_token_id is None:  # transformers' own forward pass needs one
        model.config.pad_token_id = tokenizer.eos_token_id
    return LanguageModel(model, tokenizer, source, where, kind, gives)


def _read(source: ModelSource, dtype: str, device: str, gives: Gives, quantize: bool) -> Any:
    """A model's weights on a device, without an adapter of its own."""
    import transformers

    made: Any = transformers.AutoModelForCausalLM
    special: dict[str, Any] = {}
    reading: AbstractContextManager[None] = nullcontext()
    if gives == "scores":
        made, special = transformers.AutoModelForSequenceClassification, {"num_labels": 1}
    if quantize:
        from burnish.models import four_bits

        special |= {"quantization_config": four_bits.settings(dtype), "device_map": {"": device}}
        reading = four_bits.packing_experts()
    with reading:
        model = made.from_pretrained(
            source.weights.name, revision=source.weights.revision, dtype=dtype, use_safetensors=True,
            trust_remote_code=source.trusted,
            # Measured on Pebble, rows of 60 tokens: twice as fast as torch's fused attention on a CPU.
            attn_implementation="eager" if device == "cpu" else None, **special,
        )  # fmt: skip
    for module in model.modules() if quantize else ():
        # bitsandbytes would repack the weights for a CPU kernel that knows no backward pass, at the first pass without
        # gradients, and only for some widths.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model if quantize else model.to(device)


def _adapted(model: Any, source: ModelSource, train: bool) -> Any:
    """A model with the adapter of a folder. Raises ModelError for one that lacks weights or acts outside of layers."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")  # some of it would be as it began
        try:
            model = PeftModel.from_pretrained(model, source.name, is_trainable=train, autocast_adapter_dtype=False)
        except UserWarning as warning:
            raise ModelError(f"the adapter's file lacks some of its weights: {short(warning)}",
                             where=source.name, hint="save it again; if that does not help, peft writes them"
                             " by other names than it reads: other `targets` may do") from None  # fmt: skip
    _refuse_outside_layers(model, source)
    return model


def _refuse_outside_layers(model: Any, source: ModelSource) -> None:
    """Refuse adapters that act on a model's input or by its tokens: layers alone are asked here."""
    for settings in model.peft_config.values():
        if settings.is_prompt_learning or getattr(settings, "alora_invocation_tokens", None):
            raise ModelError(f"an adapter of the kind {settings.peft_type.value} that acts outside of the layers cannot"
                             " be used", where=source.name, hint="LoRA, DoRA and IA3 can")  # fmt: skip


def _say_whole(model: Any) -> None:
    """Say how much of a model was not quantised: what is neither a linear layer nor a known form of experts."""
    parts = [part.weight for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part]
    known = {id(weight) for weight in parts}
    left = {name: weight.numel() for name, weight in model.named_parameters()
            if weight.ndim > 1 and not hasattr(weight, "quant_state") and id(weight) not in known
            and not any(part in name for part in ("lora_", "original_module", "modules_to_save"))}  # fmt: skip
    share = sum(left.values()) / sum(map(_numbers, model.parameters()))
    if share > WORTH_SAYING:
        largest = max(left, key=left.__getitem__)
        note_once(f"{share:.0%} of the weights are not quantised, such as {largest}: four bits take linear layers"
                  " and known forms of experts")  # fmt: skip


def gives_scores(source: ModelSource) -> bool:
    """Whether a model is a reward model, by its files."""
    if source.path is None:
        return False
    if source.adapter:
        return str(json.loads((source.path / ADAPTER).read_text(encoding="utf-8")).get("task_type")) == "SEQ_CLS"
    names = json.loads((source.path / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    return any(name.endswith("ForSequenceClassification") for name in names)


def _trust_hint(error: Exception, source: ModelSource) -> str:
    """What to write when a model wants to run code of its own."""
    return f"if you trust its code, name it `{TRUST}{source.ref}`" if "trust_remote_code" in str(error) else ""
