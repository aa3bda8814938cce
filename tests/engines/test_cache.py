"""Completions on disk come back as they were."""

from __future__ import annotations

from pathlib import Path

from burnish.engines.cache import load_completions, save_completions
from burnish.types import Completion, StopReason


def test_round_trip(tmp_path: Path) -> None:
    groups = [[Completion("ä\n", (1, 2), (-0.5, -1.25), StopReason.LENGTH, 7), Completion("")], []]
    save_completions(tmp_path / "c.json", groups)
    assert load_completions(tmp_path / "c.json") == groups
