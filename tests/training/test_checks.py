"""The proofs hold on models of several families, and fail where something is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from burnish.models.chat import Rendered
from burnish.models.load import LanguageModel, load_model
from burnish.training import checks
from burnish.types import Message

CHATS = [
    (Message("user", "What is 17 plus 25?"), Message("assistant", f"It is {n}."), Message("user", "Why?"),
     Message("assistant", "a b c d e f g " * n))
    for n in range(1, 7)
]  # fmt: skip


def rows(lm: LanguageModel) -> list[Rendered]:
    return [lm.chat.render(messages) for messages in CHATS]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_they_hold(kind: str, tmp_path: Path) -> None:
    folder = tiny.tiny_model(kind, tmp_path)
    lm = load_model(folder, dtype="float32")
    found = [
        checks.served_as_trained(lm.chat, list(zip(CHATS, rows(lm), strict=True))),
        checks.stops_are_learned(lm.chat, list(zip(CHATS, rows(lm), strict=True))),
        checks.shared_as_separate(lm, rows(lm)),
        checks.accumulated_as_whole(lm, rows(lm)),
        checks.resumed_as_uninterrupted(lambda: load_model(folder, dtype="bfloat16"), rows(lm)),
    ]
    assert [one.name for one in found if not one.holds] == []


def test_rows_that_see_each_other_are_found(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("lfm2", tmp_path), dtype="float32")
    lm.__dict__["trees"] = True  # its convolutions cannot be packed
    assert not checks.shared_as_separate(lm, rows(lm)).holds


def test_a_stop_token_that_is_not_learned_is_found(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("llama", tmp_path), dtype="float32")
    (row,) = rows(lm)[:1]
    last = row.turns[-1].stop - 1
    weights = tuple(0.0 if place == last else weight for place, weight in enumerate(row.weights))
    found = checks.stops_are_learned(lm.chat, [(CHATS[0], replace(row, weights=weights))])
    assert not found.holds and found.difference == 1


def test_noise_that_is_not_restored_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.tiny_model("llama", tmp_path)

    def load() -> LanguageModel:
        lm = load_model(folder, dtype="float32")
        for layer in lm.model.model.layers:
            layer.mlp.register_forward_hook(lambda module, given, out: torch.dropout(out, 0.5, module.training))
        return lm

    found = rows(load())
    assert checks.resumed_as_uninterrupted(load, found).holds  # dropout is drawn from (seed, step)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    assert not checks.resumed_as_uninterrupted(load, found).holds
