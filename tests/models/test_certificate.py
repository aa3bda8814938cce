"""Certificates of folded models: nothing between a model and itself, and a verdict on one that is another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from burnish.models.certificate import Certificate, ScoreCertificate, certify
from burnish.models.chat import Rendered
from burnish.models.load import Gives, LanguageModel, load_model

ROWS = [Rendered(tuple(range(10, 30)), (0.0,) * 12 + (1.0,) * 8, ()), Rendered((5, 6, 7), (0.0, 1.0, 1.0), ())]


def pair(gives: Gives, folder: Path) -> tuple[LanguageModel, LanguageModel]:
    one, other = (load_model(tiny.tiny_model("llama", folder), dtype="float32", gives=gives) for _ in range(2))
    if gives == "scores":  # zero until they are trained
        for lm in (one, other):
            lm.model.score.weight.data.copy_(torch.linspace(-1, 1, lm.model.score.weight.numel()))
    return one, other


def test_of_a_model_and_itself(tmp_path: Path) -> None:
    found = certify(*pair("text", tmp_path), ROWS)
    assert isinstance(found, Certificate) and found.holds
    assert (found.tokens, found.top1) == (10, 1.0) and abs(found.kl) < 1e-6
    found = certify(*pair("scores", tmp_path), ROWS)
    assert isinstance(found, ScoreCertificate) and found.holds
    assert (found.tokens, found.difference, found.difference_most) == (10, 0.0, 0.0) and found.size > 0


@pytest.mark.parametrize("gives", ["text", "scores"])
def test_of_another_model(gives: Gives, tmp_path: Path) -> None:
    one, other = pair(gives, tmp_path)
    torch.manual_seed(0)
    for weight in other.model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    found = certify(one, other, ROWS)
    assert not found.holds and f"{found.tokens} tokens" in str(found)


def test_scores_by_hand(tmp_path: Path) -> None:
    # A head of twice the weights doubles scores s: |s - 2s| is on average mean |s|, at most the largest |s|.
    one, other = pair("scores", tmp_path)
    other.model.score.weight.data *= 2
    found = certify(one, other, ROWS)
    assert isinstance(found, ScoreCertificate) and not found.holds
    assert found.difference <= found.size <= found.difference_most  # mean <= root mean square <= largest
    assert found.difference > found.size / 2
