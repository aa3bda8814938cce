"""The tensors of a model on disk, read one at a time; an adapter's are its base's with the update added."""

from __future__ import annotations

import json
import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from burnish.errors import MergeError
from burnish.models.locate import ADAPTER, ModelSource, tensor_header, weight_files

HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"
PREFIX = "base_model.model."
"""What peft puts before the names of the model it wraps."""


class StoredTensors:
    """Read access to the parameters of a model."""

    def __init__(self, source: ModelSource) -> None:
        if source.path is None:
            raise MergeError(f"{source.ref} is not on this machine", hint="download it first, or give its folder")
        self.source, self.path = source, source.path
        self.base = StoredTensors(source.base) if source.base else None

    @cached_property
    def _files(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        return {name: (file, entry) for file in weight_files(self.path) for name, entry in tensor_header(file).items()}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of the files."""
        if self.base is not None:
            return self.base.shapes
        return {name: tuple(entry["shape"]) for name, (_, entry) in self._files.items()}

    def dtype(self, name: str) -> torch.dtype:
        """The number format a tensor is stored in."""
        if self.base is not None:
            return self.base.dtype(name)
        kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
        kind = self._files[self.stored(name)][1]["dtype"]
        if kind not in kinds:
            raise MergeError(f"{name} is stored as {kind}, which cannot be merged", where=str(self.path))
        return kinds[kind]

    def stored(self, name: str) -> str:
        """The name under which a tensor is stored: a tied head is the embedding.

        Raises MergeError when the model has no such tensor.
        """
        if name in self.shapes:
            return name
        if name == HEAD:
            for other in self.shapes:
                if other.endswith(EMBEDDING):
                    return other
        raise MergeError(f"{self.source.ref} has no tensor {name}", hint="models must share one architecture")

    def read(self, name: str) -> Tensor:
        """One tensor in fp32."""
        if self.base is not None:
            return self._adapted(name)
        stored = self.stored(name)
        return self._load(self._files[stored][0], stored)

    @staticmethod
    def _load(file: Path, name: str) -> Tensor:
        with safe_open(file, framework="pt") as handle:
            tensor: Tensor = handle.get_tensor(name)
        return tensor.to(torch.float32)

    # -- adapters

    @cached_property
    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads((self.path / ADAPTER).read_text(encoding="utf-8"))
        plain = (
            settings.get("peft_type") == "LORA" and not settings.get("use_dora") and not settings.get("fan_in_fan_out")
        )
        matrices = [PREFIX + name.removesuffix(".weight") for name in self.shapes]
        known = {f"{matrix}.lora_{part}.weight" for matrix in matrices for part in "AB"}
        known |= {PREFIX + name for name in self.shapes}  # modules_to_save: whole tensors instead of an update
        # Others are of experts that are one tensor when loaded, or of a head that is the embedding.
        unknown = [name for name in self._files if name not in known]
        if not plain or unknown:
            what = f"it holds {unknown[0]}" if unknown else f"it is {settings.get('peft_type')}"
            raise MergeError(f"only plain LoRA adapters can be merged from disk, and {what}", where=str(self.path),
                             hint="fold the adapter into its model first")  # fmt: skip
        return settings

    def _adapted(self, name: str) -> Tensor:
        """A tensor of the base as the adapter changes it: replaced, or with scale x B A added."""
        assert self.base is not None
        settings = self._settings
        if PREFIX + name in self._files:
            return self._load(self._files[PREFIX + name][0], PREFIX + name)
        module = name.removesuffix(".weight")
        down, up = f"{PREFIX}{module}.lora_A.weight", f"{PREFIX}{module}.lora_B.weight"
        if down not in self._files:
            return self.base.read(name)
        rank = _by_pattern(settings.get("rank_pattern"), module, settings["r"])
        alpha = _by_pattern(settings.get("alpha_pattern"), module, settings["lora_alpha"])
        scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        return self.base.read(name) + scale * (
            self._load(self._files[up][0], up) @ self._load(self._files[down][0], down)
        )


def _by_pattern(patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that is the end of a module's name, as peft looks them up."""
    return next((value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", module)), default)
