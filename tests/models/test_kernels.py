"""How many rows a CPU multiplies at once."""

from __future__ import annotations

import pytest
import torch

from burnish import hardware
from burnish.models.kernels import extra_rows


@pytest.mark.parametrize(
    ("rows", "extra"),
    [
        (0, 0),
        (31, 0),  # five bits: steps of 1
        (33, 1),  # six bits: steps of 2
        (1025, 63),  # eleven bits: steps of 64, 1088
        (1392, 16),  # 1408
        (2048, 0),
    ],
)
def test_rows_are_few_sizes_in_bfloat16(rows: int, extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.zeros(1, dtype=torch.bfloat16)
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda: True)
    assert extra_rows(rows, weight) == extra
    assert extra_rows(rows, weight.float()) == 0  # oneDNN does not multiply these
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda: False)
    assert extra_rows(rows, weight) == 0  # nor any without instructions


def test_little_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda: True)
    weight = torch.zeros(1, dtype=torch.bfloat16)
    sizes = [(rows, extra_rows(rows, weight)) for rows in range(1, 4097)]
    assert len({rows + extra for rows, extra in sizes}) <= 31 + 16 * 7 + 1
    assert sum(extra for _, extra in sizes) / sum(rows for rows, _ in sizes) < 0.025
    assert max(extra / rows for rows, extra in sizes) < 1 / 16
