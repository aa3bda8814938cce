"""Gradients of embeddings by row are those of torch, tied or not, over several passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from burnish.models.embedding import gradients_by_row
from burnish.models.load import LanguageModel, load_model

IDS = torch.tensor([[5, 9, 5, 5, 2, 0], [9, 1, 2, 3, 4, 5]])


def gradients(lm: LanguageModel, by_row: bool) -> dict[str, torch.Tensor]:
    """Of two passes together."""
    lm.model.zero_grad()
    with gradients_by_row(lm.model, by_row) as add:
        for ids in IDS:
            logits = lm.model(input_ids=ids[None]).logits
            logits.float().log_softmax(-1)[..., 3].sum().backward()
            add()
    return {name: value.grad.clone() for name, value in lm.model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_they_are_torchs(kind: str, tied: bool, tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model(kind, tmp_path), dtype="float32")
    if not tied:
        head = lm.model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    expected, found = gradients(lm, by_row=False), gradients(lm, by_row=True)
    assert found.keys() == expected.keys() and any("embed" in name for name in found)
    for name, grad in expected.items():
        assert torch.allclose(found[name], grad, rtol=1e-4, atol=1e-5 * float(grad.abs().max())), name
    assert not any("forward" in vars(module) for module in lm.model.modules())


def test_sums_of_a_token_are_rounded_once() -> None:
    """1 + 300 x 0.004 = 2.2 in fp32; added one by one in bfloat16, 1 + 0.004 would be 1.0 for good."""
    from burnish.models.embedding import _add

    weight = torch.nn.Parameter(torch.zeros(3, 1, dtype=torch.bfloat16))
    rows = torch.cat([torch.ones(1, 1), torch.full((300, 1), 0.004)]).bfloat16()
    waiting = [(weight, torch.full((301,), 2), rows)]
    _add(waiting)
    assert weight.grad is not None and not waiting
    assert weight.grad.flatten().tolist() == [0.0, 0.0, pytest.approx(2.2, abs=0.01)]


def test_padding_and_frozen_weights_learn_nothing(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("llama", tmp_path), dtype="float32")
    table = lm.model.get_input_embeddings()
    table.padding_idx = 5
    head = lm.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    found = gradients(lm, by_row=True)["model.embed_tokens.weight"]
    assert not found[5].any() and found[9].any()
    table.weight.requires_grad_(False)
    assert "model.embed_tokens.weight" not in gradients(lm, by_row=True)
