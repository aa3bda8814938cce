"""Models whose frozen matrices are held in four bits (NF4, arXiv:2305.14314 section 3): linear layers by bitsandbytes,
experts that a family holds as one tensor by `models/experts.py`.

All are packed while files are read, one tensor after the other, so that a model needs never fit in memory as a whole.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from burnish.errors import ModelError
from burnish.models.experts import TENSORS, TRIED, are_packable, packed, tensors_of

METHOD = "bitsandbytes_4bit"
"""What transformers calls the quantizer that ours takes the place of while a model is read."""


def settings(dtype: str) -> BitsAndBytesConfig:
    """NF4 with constants that are quantised themselves. Raises ModelError without bitsandbytes.

    Args:
        dtype: what products are made in.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("QLoRA needs the package bitsandbytes", hint="pip install 'burnish[qlora]'")
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                              bnb_4bit_compute_dtype=getattr(torch, dtype))  # fmt: skip


@contextmanager
def packing_experts() -> Iterator[None]:
    """While this lasts, transformers packs experts as it reads them, beside bitsandbytes' linear layers."""
    theirs = AUTO_QUANTIZER_MAPPING[METHOD]
    AUTO_QUANTIZER_MAPPING[METHOD] = _Quantizer
    try:
        yield
    finally:
        AUTO_QUANTIZER_MAPPING[METHOD] = theirs


class _Quantizer(Bnb4BitHfQuantizer):  # type: ignore[misc]
    """transformers' quantizer, which asks of every tensor whether it is to be packed, and how."""

    def _process_model_before_weight_loading(self, model: Any, device_map: Any, **rest: Any) -> None:
        super()._process_model_before_weight_loading(model, device_map, **rest)
        known: dict[type, bool] = {}
        with torch.device("cpu"):  # what is made meanwhile has no memory otherwise
            self.experts = {name for name, module in model.named_modules() if _fits(module, known)}

    def param_needs_quantization(self, model: Any, param_name: str, **rest: Any) -> bool:
        return self.packs(param_name) or bool(super().param_needs_quantization(model, param_name, **rest))

    def packs(self, name: str) -> bool:
        owner, _, leaf = name.rpartition(".")
        return owner in self.experts and leaf in TENSORS

    def get_quantize_ops(self) -> Bnb4bitQuantize:
        return _Quantize(self)


class _Quantize(Bnb4bitQuantize):  # type: ignore[misc]
    def convert(self, input_dict: dict[str, Any], **rest: Any) -> dict[str, Any]:
        ours = {name: value for name, value in input_dict.items() if self.hf_quantizer.packs(name)}
        theirs = {name: value for name, value in input_dict.items() if name not in ours}
        made = {name: packed(value[0] if isinstance(value, list) else value) for name, value in ours.items()}
        return {**made, **super().convert(theirs, **rest)}


@torch.no_grad()  # type: ignore[untyped-decorator]
def _fits(module: Any, known: dict[type, bool]) -> bool:
    """`are_packable` of a module that has no numbers yet."""
    if not tensors_of(module) or type(module) in known:
        return known.get(type(module), False)
    made = copy.deepcopy(module).to_empty(device="cpu")
    for value in made.parameters():  # of the others no page is touched, so they take no memory
        (value[:TRIED] if value.ndim == 3 else value).normal_(std=0.1)
    return are_packable(made, known)
