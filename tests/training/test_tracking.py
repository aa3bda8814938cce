"""Trackers get every step's metrics and the run's settings. Those that are not installed are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.training.tracking import Tracker, tracked


def test_mlflow_has_the_metrics_and_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with tracked(["mlflow"], "sft", {"train": {"learning_rate": 1e-3}}, tmp_path) as after:
        assert after is not None
        after(0, {"step": 0, "loss": 3.0})
    (metric,) = tmp_path.glob("runs/*/*/metrics/loss")
    assert metric.read_text().split()[1:3] == ["3.0", "0"]
    (setting,) = tmp_path.glob("runs/*/*/params/train.learning_rate")
    assert setting.read_text() == "0.001"


def two_runs(name: Tracker, folder: Path) -> None:
    """A run's first step, and its second one after it was resumed."""
    for step in (0, 1):
        with tracked([name], "sft-1234", {"seed": 0}, folder) as after:
            assert after is not None
            after(step, {"step": step, "loss": 3.0 - step})


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    seen = []
    begin = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **given: seen.append(begin(**given)) or seen[-1])
    two_runs("wandb", tmp_path)
    assert [(run.id, run.name, run.settings.resume) for run in seen] == [("sft-1234", "sft-1234", "allow")] * 2


def test_a_resumed_run_goes_on_in_the_same_run_of_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    two_runs("trackio", tmp_path)
    assert storage.get_runs("burnish") == ["sft-1234"]
    assert [row["loss"] for row in storage.get_logs("burnish", "sft-1234")] == [3.0, 2.0]
