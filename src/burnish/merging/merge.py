"""Merge models on disk into a new model folder, one tensor at a time, in fp32 and rounded once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import save_file
from torch import Tensor

from burnish.errors import MergeError
from burnish.log import ticker
from burnish.merging.tensors import StoredTensors
from burnish.models.locate import ADAPTER, INDEX, ModelSource, fingerprint, identity_files

SHARD_BYTES = 4 << 30


class Method(Protocol):
    """A row of the methods table."""

    def merge(self, tensors: list[Tensor], base: Tensor | None) -> Tensor: ...


@dataclass(frozen=True)
class MergeReport:
    """What was merged; written to merge.json beside the weights."""

    tensors: int
    parameters: int
    inputs: list[str]
    """Fingerprints of the models, in their order."""
    base: str | None
    method: str
    settings: dict[str, Any]


def merge_models(sources: Sequence[ModelSource], base: ModelSource | None, method: Any, out: Path) -> MergeReport:
    """Write the merge of `sources` to the folder `out`.

    Adapters are added to their base exactly as peft does. Config, tokenizer and chat template come from `base`, or from
    the first model. Memory: one output shard and the tensors of one name in fp32.

    Raises MergeError when a tensor is missing somewhere or shapes differ, naming the tensor.
    """
    stored = [StoredTensors(source) for source in sources]
    origin = StoredTensors(base) if base else None
    names = common_names(stored)
    out.mkdir(parents=True, exist_ok=True)
    writer = _Shards(out)
    parameters = 0
    with ticker("merge", len(names), "tensors") as tick:
        for name in names:
            tensors = [one.read(name) for one in stored]
            merged = method.merge(tensors, origin.read(name) if origin else None)
            parameters += merged.numel()
            writer.add(name, merged.to(stored[0].dtype(name)))
            tick.advance()
    writer.close()
    _copy_rest((base or sources[0]).weights, sources[0], out)
    report = MergeReport(
        len(names), parameters, [fingerprint(source.ref) for source in sources],
        fingerprint(base.ref) if base else None, type(method).__name__.lower(), method.model_dump(),
    )  # fmt: skip
    (out / "merge.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def common_names(stored: Sequence[StoredTensors]) -> list[str]:
    """The names of all models, checked to have one shape each."""
    names = list(dict.fromkeys(name for one in stored for name in one.shapes))
    for name in names:
        shapes = {one.source.ref: one.shapes[one.stored(name)] for one in stored}
        if len(set(shapes.values())) > 1:
            text = ", ".join(f"{ref} {list(shape)}" for ref, shape in shapes.items())
            raise MergeError(
                f"{name} has different shapes: {text}", hint="models must share architecture and vocabulary"
            )
    return names


def _copy_rest(source: ModelSource, first: ModelSource, out: Path) -> None:
    for folder in (source.path, first.path):  # an adapter's own tokenizer wins over its base's
        assert folder is not None
        for file in identity_files(folder):
            if file.suffix != ".safetensors" and file.name not in (INDEX, ADAPTER):
                shutil.copyfile(file, out / file.name)


class _Shards:
    """Writes tensors into numbered safetensors files with the index that transformers reads."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._held: dict[str, Tensor] = {}
        self._bytes = 0
        self._files: list[list[str]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if self._held and self._bytes + size > SHARD_BYTES:
            self._flush()
        self._held[name] = tensor.contiguous()
        self._bytes += size

    def _flush(self) -> None:
        save_file(self._held, self._out / f"part-{len(self._files)}.safetensors", metadata={"format": "pt"})
        self._files.append(list(self._held))
        self._held, self._bytes = {}, 0

    def close(self) -> None:
        """Write what is held and give the files their final names."""
        self._flush()
        count = len(self._files)
        if count == 1:
            (self._out / "part-0.safetensors").rename(self._out / "model.safetensors")
            return
        index: dict[str, str] = {}
        for number, names in enumerate(self._files):
            final = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
            (self._out / f"part-{number}.safetensors").rename(self._out / final)
            index |= dict.fromkeys(names, final)
        text = json.dumps({"metadata": {}, "weight_map": index}, indent=2)
        (self._out / INDEX).write_text(text, encoding="utf-8")
