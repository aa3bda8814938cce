"""Find models and know them: folders, models of the Hub, adapters, and the embedded one. Nothing here loads weights.

Weights are read from safetensors only: a pickle can run code. A model's own Python code is run only when it is asked
for by name, `trust:org/name`; what is trained from it inherits that.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError, ModelError

EMBEDDED = "pebble"
EMBEDDED_PATH = Path(__file__).parents[1] / "pebble" / "weights"
SCHEMES = ("http://", "https://")
TRUST = "trust:"
"""Prefix of a model that may run its own code."""
TRUSTED = "trusted.txt"
"""File in a folder that was saved from such a model."""
ADAPTER = "adapter_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
INDEX = "model.safetensors.index.json"
WHOLE = "download or copy it once more"
PEDIGREE = "burnish.json"
"""What a folder that was saved here is made of; an adapter's names the fingerprint of its base."""
IDENTITY = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "*.py", "merges.txt", "vocab.txt")
"""Files whose bytes make a model what it is."""
NOT_IDENTITY = (PEDIGREE, "merge.json", "trainer_state.json", "training_args.json")


@dataclass(frozen=True)
class ModelSource:
    """Where a model is. `path` None: a model of the Hub whose weights are not on this machine."""

    ref: str
    path: Path | None
    hub: str | None = None
    """`org/name@commit` of a model of the Hub: the commit is its identity, whether it was downloaded yet or not."""
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
        return str(self.path) if self.path else str(self.hub).partition("@")[0]

    @property
    def revision(self) -> str | None:
        """The commit that transformers is told to take, for a model that it is to download."""
        return None if self.path or not self.hub else self.hub.partition("@")[2]


def is_url(ref: str | Path) -> bool:
    """Whether a model is named by a server's address, `URL#MODEL`."""
    return str(ref).startswith(SCHEMES)


def locate(ref: str | Path) -> ModelSource:
    """Find a model: `pebble`, a folder, `org/name` or `org/name@revision` of the Hub, with `trust:` before it.

    Raises ModelError for a folder that is missing or lacks weights, config or tokenizer, and for a model that is not on
    this machine while the Hub cannot be asked.
    """
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
    return _of_hub(text)


@cache
def _of_hub(ref: str) -> ModelSource:
    """A model of the Hub, at the commit of an earlier download, or else at the commit that the Hub now has."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    name, _, revision = ref.partition("@")
    try:
        folder = Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except HFValidationError as error:
        raise ModelError(f"no such model: {ref}", hint=str(error).partition("\n")[0]) from None
    except (OSError, ValueError):  # not downloaded
        pass
    else:
        # A snapshot may hold the tokenizer alone: the plan has looked at it and nothing was loaded yet.
        return ModelSource(ref, None if _missing_weights(folder) else folder, f"{name}@{folder.name}")
    try:
        commit = HfApi().model_info(name, revision=revision or None, timeout=20).sha
    except Exception as error:  # no network, no such model, no access: each with an error of its own
        raise ModelError(f"{name} is not on this machine, and the Hub cannot give it: {short(error)}",
                         hint="check the name and the network, or give a folder") from None  # fmt: skip
    return ModelSource(ref, None, f"{name}@{commit}")


def _missing_weights(path: Path) -> str:
    """What is missing of a folder's weights; empty when they are whole."""
    index = path / INDEX
    if index.is_file():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return ", ".join(sorted(file for file in files if not (path / file).is_file()))
    return "" if any(path.glob("*.safetensors")) else "*.safetensors"


def _folder(ref: str, path: Path) -> ModelSource:
    if (path / ADAPTER).is_file():
        if not (path / "adapter_model.safetensors").is_file():
            raise ModelError("an adapter without adapter_model.safetensors", where=ref)
        return ModelSource(ref, path, adapter=True, base=_base_of(ref, path), trusted=(path / TRUSTED).is_file())
    if not (path / "config.json").is_file():
        raise ModelError("the folder has no config.json, so it is not a model", where=ref,
                         hint="name the folder that `save_pretrained` wrote")  # fmt: skip
    if missing := _missing_weights(path):
        if (path / INDEX).is_file():
            raise ModelError(f"the model folder lacks some of its weights: {missing}", where=ref,
                             hint="is the download complete?")  # fmt: skip
        pickled = any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.pth"))
        hint = (
            "convert them: save_pretrained(folder, safe_serialization=True)" if pickled else "is the download complete?"
        )
        what = "the weights are pickled, and a pickle can run code" if pickled else "the model folder has no weights"
        raise ModelError(what, where=ref, hint=hint)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError("the model folder has no tokenizer", where=ref, hint="copy tokenizer.json of its base into it")
    return ModelSource(ref, path, trusted=(path / TRUSTED).is_file())


def write_pedigree(folder: Path, base: ModelSource) -> None:
    """Beside a saved adapter: what its base is, and where it is seen from the adapter, should both be moved."""
    pedigree = {"base": fingerprint(base.ref)}
    if base.path is not None:
        pedigree["relative"] = os.path.relpath(base.path, folder)
    (folder / PEDIGREE).write_text(json.dumps(pedigree, indent=2) + "\n", encoding="utf-8")


_seen: dict[str, str] = {}
"""Fingerprints of the models that this process was given by name, with that name."""


def _base_of(ref: str, path: Path) -> ModelSource:
    """The model that an adapter belongs to: where the adapter says, or where it has moved to since."""
    named = json.loads((path / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not named:
        raise ModelError("the adapter does not say which model it belongs to", where=f"{ref}/{ADAPTER}",
                         hint="set base_model_name_or_path")  # fmt: skip
    pedigree = json.loads((path / PEDIGREE).read_text(encoding="utf-8")) if (path / PEDIGREE).is_file() else {}
    moved = [str(path / pedigree["relative"])] if "relative" in pedigree else []
    moved += [_seen[pedigree["base"]]] if pedigree.get("base") in _seen else []
    places = [named, *moved]
    for place in places:
        try:
            found = locate(place)
        except ModelError:
            continue
        if "base" not in pedigree or fingerprint(place) == pedigree["base"]:
            return found
    raise ModelError(f"the model that this adapter belongs to is not at {named} any more", where=ref,
                     hint=f"put it back, or set base_model_name_or_path in {path / ADAPTER}")  # fmt: skip


def fingerprint(ref: str | Path) -> str:
    """Hash of the bytes that make a model what it is, of an adapter's base too; for the Hub's, of name and commit.

    A server does not show its weights: its model is what its address says.
    """
    if is_url(ref):
        return hashlib.sha256(str(ref).encode()).hexdigest()[:32]
    source = locate(ref)
    parts = [] if source.base is None else [fingerprint(source.base.ref)]
    if source.hub is not None:
        parts.append(source.hub)
    else:
        assert source.path is not None
        for file in identity_files(source.path):
            # Where its base was when the adapter was made is no part of what it is.
            state = file.stat()
            known = _settings_hash(file) if file.name == ADAPTER else _file_hash(file, state.st_size, state.st_mtime_ns)
            parts.append(f"{file.name}:{known}")
    found = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    _seen[found] = str(ref)
    return found


def identity_files(path: Path) -> list[Path]:
    """The files of a model's folder whose bytes make it what it is."""
    files = {file for pattern in IDENTITY for file in path.glob(pattern) if file.is_file()}
    return sorted(file for file in files if file.name not in NOT_IDENTITY)


def _settings_hash(file: Path) -> str:
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings.pop("base_model_name_or_path", None)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


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
    width: int = 0
    """Numbers in a hidden state."""
    cached: int = 0
    """Numbers that a layer's key-value cache holds for a token."""


def size_of(ref: str | Path) -> Size | None:
    """The size of a model (of an adapter: its base's), from its files' headers; None for a model that is not here."""
    try:
        path = locate(ref).weights.path
    except BurnishError:
        return None
    if path is None:
        return None
    try:
        tensors = [entry for file in weight_files(path) for entry in tensor_header(file).values()]
    except BurnishError:  # `check` says it
        return None
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = {**config, **config.get("text_config", {})}
    layers, width, heads = (next((config[name] for name in names if config.get(name)), 0) for names in SIZES)
    heads = heads or 1
    head = config.get("head_dim") or width // heads
    cached = 2 * head * (config.get("num_key_value_heads") or heads)
    stored = sum(stop - start for start, stop in (entry["data_offsets"] for entry in tensors))
    return Size(sum(math.prod(entry["shape"]) for entry in tensors), int(layers), stored, width, cached)


SIZES = (("num_hidden_layers", "n_layer", "n_layers"), ("hidden_size", "n_embd", "d_model"),
         ("num_attention_heads", "n_head", "n_heads"))  # fmt: skip
"""What configurations call the number of layers, the width of a hidden state, and the number of heads."""


def weight_files(path: Path) -> list[Path]:
    """The files that transformers reads a model from. Others may lie beside them, with the same weights once more."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        return sorted({path / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    return [one] if (one := path / "model.safetensors").is_file() else sorted(path.glob("*.safetensors"))


def tensor_header(file: Path) -> dict[str, Any]:
    """The names, dtypes and shapes in a safetensors file, without reading its data. Raises ModelError for a file that
    is missing or not whole."""
    if not file.is_file():
        raise ModelError("the model's index names a file that is not there", where=str(file), hint=WHOLE)
    with file.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(length))
        except (struct.error, ValueError, OverflowError, MemoryError):
            raise ModelError("not a safetensors file, or the beginning of one", where=str(file), hint=WHOLE) from None
    header.pop("__metadata__", None)
    end = 8 + length + max((one["data_offsets"][1] for one in header.values()), default=0)
    if (held := file.stat().st_size) < end:
        raise ModelError(f"the file ends after {held:,} of {end:,} bytes", where=str(file), hint=WHOLE)
    return header


def short(error: Exception) -> str:
    """An error of another library on one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
