"""What several tests of the training loops share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import Tensor

from burnish.models.load import LanguageModel
from burnish.training.state import METRICS

TEXTS = ["the quick brown fox", "What is 17 plus 25?", "A b c d e f g", "lazy dog", "jumps over the lazy dog", "42."]


def weights(lm: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in lm.model.named_parameters()}


def metrics(out: Path) -> list[dict[str, float]]:
    """Every step's metrics but its time."""
    found = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in metrics(out)]


def assert_losses_agree(out: Path, other: Path) -> None:
    """Two runs that may differ by the order of their sums: closely at first, then as far as Adam spreads rounding."""
    found, expected = losses(out), losses(other)
    assert found[:2] == pytest.approx(expected[:2], abs=1e-5)
    assert found == pytest.approx(expected, abs=1e-3)
