from __future__ import annotations

import gc
import weakref
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

import tiny
from burnish.errors import ModelError
from burnish.models import experts, four_bits
from burnish.models.load import load_model

pytestmark = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.mark.parametrize("kind", tiny.MIXTURES)
def test_a_tensor_of_experts_is_packed_before_the_next_one_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[weakref.ref[Tensor]] = []

    def packed(weight: Tensor) -> torch.nn.Parameter:
        gc.collect()
        assert not any(earlier() is not None for earlier in read)
        read.append(weakref.ref(weight))
        return experts.packed(weight)

    folder = tiny.tiny_model(kind, tmp_path)
    monkeypatch.setattr(four_bits, "packed", packed)
    lm = load_model(folder, dtype="float32", quantize=True)
    held = [weight for weight in lm.model.parameters() if hasattr(weight, "packed")]
    assert len(read) == len(held) > 0


def test_what_was_saved_in_four_bits_is_read_again(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("llama", tmp_path / "whole"), dtype="float32", quantize=True)
    lm.save(tmp_path / "packed")
    again = load_model(tmp_path / "packed", dtype="float32", quantize=True)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(again.model(input_ids=ids).logits, lm.model(input_ids=ids).logits)


def test_transformers_has_its_own_quantizer_back_whatever_happened(tmp_path: Path) -> None:
    theirs = AUTO_QUANTIZER_MAPPING[four_bits.METHOD]
    folder = tiny.tiny_model("llama", tmp_path)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder, dtype="float32", quantize=True)
    assert AUTO_QUANTIZER_MAPPING[four_bits.METHOD] is theirs is not four_bits._Quantizer


def test_the_package_that_packs_is_named_where_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs the package bitsandbytes"):
        four_bits.settings("float32")
