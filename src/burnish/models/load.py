"""Find, check and open models: local folders, Hub ids, adapters, and the embedded one.

Weights are read from safetensors only: a pickle can run code. A model's own Python code is run only when it is asked
for by name, `trust:org/name`; what is trained from it inherits that.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from burnish import hardware
from burnish.errors import BurnishError, ModelError, Problem
from burnish.models.chat import ChatTemplate

EMBEDDED = "pebble"
EMBEDDED_PATH = Path(__file__).parents[1] / "pebble" / "weights"
TRUST = "trust:"
"""Prefix of a model that may run its own code."""
TRUSTED = "trusted.txt"
"""File in a folder that was saved from such a model."""
ADAPTER = "adapter_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
IDENTITY = ("*.safetensors", "config.json", ADAPTER, "tokenizer*", "*.jinja", "special_tokens_map.json", "vocab*",
            "merges.txt", "generation_config.json")  # fmt: skip
"""Files whose bytes make a model what it is."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model is. `path` None: a Hub id that is not on this machine."""

    ref: str
    path: Path | None
    adapter: bool = False
    base: ModelSource | None = None
    """The model that an adapter sits on."""
    trusted: bool = False
    """Whether its own code may run."""

    @property
    def weights(self) -> ModelSource:
        """The whole model: itself, or the base of an adapter."""
        return self.base.weights if self.base else self

    @property
    def name(self) -> str:
        """What transformers is given."""
        return str(self.path) if self.path else self.ref


def locate(ref: str | Path) -> ModelSource:
    """Find a model. Raises ModelError for a folder that is missing or lacks weights, config or tokenizer."""
    text = str(ref)
    if text.startswith(TRUST):
        return replace(locate(text.removeprefix(TRUST)), ref=text, trusted=True)
    if text == EMBEDDED:
        return ModelSource(text, EMBEDDED_PATH)
    path = Path(text).expanduser()
    if path.is_dir():
        return _folder(text, path.resolve())
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1:
        raise ModelError(f"no such model: {text}", hint="`pebble`, a folder with config.json, or a Hub id `org/name`")
    return ModelSource(text, _in_hub_cache(text))


def _in_hub_cache(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError):
        return None


def _folder(ref: str, path: Path) -> ModelSource:
    if (path / ADAPTER).is_file():
        if not (path / "adapter_model.safetensors").is_file():
            raise ModelError("an adapter without adapter_model.safetensors", where=ref)
        base = json.loads((path / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
        if not base:
            raise ModelError("the adapter does not say which model it belongs to", where=f"{ref}/{ADAPTER}",
                             hint="set base_model_name_or_path")  # fmt: skip
        return ModelSource(ref, path, adapter=True, base=locate(base), trusted=(path / TRUSTED).is_file())
    if not (path / "config.json").is_file():
        raise ModelError("the folder has no config.json, so it is not a model", where=ref,
                         hint="name the folder that `save_pretrained` wrote")  # fmt: skip
    if not any(path.glob("*.safetensors")):
        pickled = any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.pth"))
        hint = (
            "convert them: save_pretrained(folder, safe_serialization=True)" if pickled else "is the download complete?"
        )
        what = "the weights are pickled, and a pickle can run code" if pickled else "the model folder has no weights"
        raise ModelError(what, where=ref, hint=hint)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError("the model folder has no tokenizer", where=ref, hint="copy tokenizer.json of its base into it")
    return ModelSource(ref, path, trusted=(path / TRUSTED).is_file())


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


def fingerprint(ref: str | Path) -> str:
    """Hash of the bytes that make a model what it is, of an adapter's base too. A Hub id not here: of its name."""
    source = locate(ref)
    parts = [] if source.base is None else [fingerprint(source.base.ref)]
    if source.path is None:
        return hashlib.sha256(f"hub:{source.ref}".encode()).hexdigest()[:32]
    files = sorted({file for pattern in IDENTITY for file in source.path.glob(pattern) if file.is_file()})
    for file in files:
        state = file.stat()
        parts.append(f"{file.name}:{_file_hash(file, state.st_size, state.st_mtime_ns)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def _file_hash(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Size:
    """How large a model is."""

    parameters: int
    layers: int
    bytes: int
    """Of the weights on disk."""


def size_of(ref: str | Path) -> Size | None:
    """The size of a model (of an adapter: its base's), from its files' headers; None for a model that is not here."""
    try:
        path = locate(ref).weights.path
    except BurnishError:
        return None
    if path is None:
        return None
    tensors = [entry for file in path.glob("*.safetensors") for entry in tensor_header(file).values()]
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    layers = {**config, **config.get("text_config", {})}.get("num_hidden_layers", 0)
    stored = sum(stop - start for start, stop in (entry["data_offsets"] for entry in tensors))
    return Size(sum(math.prod(entry["shape"]) for entry in tensors), int(layers), stored)


def tensor_header(file: Path) -> dict[str, Any]:
    """The names, dtypes and shapes in a safetensors file, without reading its data."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header


def load_tokenizer(ref: str | Path) -> Any:
    """The tokenizer of a model, an adapter's own where it has one. Raises ModelError when it cannot be read."""
    from transformers import AutoTokenizer

    source = locate(ref)
    if source.adapter and source.path and not any((source.path / name).is_file() for name in TOKENIZER_FILES):
        source = source.weights
    try:
        return AutoTokenizer.from_pretrained(source.name, trust_remote_code=source.trusted)
    except Exception as error:  # transformers raises many kinds for a folder it cannot use
        hint = _trust_hint(error, source)
        raise ModelError(f"the tokenizer cannot be read: {_short(error)}", where=source.name, hint=hint) from None


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

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters())

    def save(self, folder: Path, max_shard: str = "4GB") -> None:
        """Write safetensors, tokenizer, chat template and generation settings; of a PEFT model the adapter alone."""
        if hasattr(self.model, "peft_config"):
            for settings in self.model.peft_config.values():
                settings.base_model_name_or_path = self.source.weights.name
        self.model.save_pretrained(folder, max_shard_size=max_shard)
        self.tokenizer.save_pretrained(folder)
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
            source.weights.name, dtype=kind, use_safetensors=True, trust_remote_code=source.trusted,
            # Measured on Pebble, rows of 60 tokens: twice as fast as torch's fused attention on a CPU.
            attn_implementation="eager" if where == "cpu" else None,
        ).to(where)  # fmt: skip
        if source.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, source.name, is_trainable=train_adapter)
    except Exception as error:
        hint = _trust_hint(error, source) or "`burnish doctor` shows the versions installed"
        raise ModelError(f"the model cannot be loaded: {_short(error)}", where=source.name, hint=hint) from error
    model.eval()
    return LanguageModel(model, load_tokenizer(ref), source, where, kind)


def _trust_hint(error: Exception, source: ModelSource) -> str:
    """What to write when a model wants to run code of its own."""
    return f"if you trust its code, name it `{TRUST}{source.ref}`" if "trust_remote_code" in str(error) else ""


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
