"""Trackers get every step's metrics and the run's settings. Those that are not installed are skipped."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from burnish.training.tracking import tracked


def test_mlflow_has_the_metrics_and_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with tracked(["mlflow"], "sft", {"train": {"learning_rate": 1e-3}}, tmp_path) as after:
        assert after is not None
        after(0, {"step": 0, "loss": 3.0})
    found = sqlite3.connect(tmp_path / "mlflow.db")
    assert found.execute("select key, value, step from metrics").fetchall() == [("loss", 3.0, 0)]
    assert found.execute("select key, value from params").fetchall() == [("train.learning_rate", "0.001")]
