"""Trackers get every step's metrics and the run's settings. Those that are not installed are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.training.tracking import tracked


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


@pytest.mark.parametrize(("name", "settings"), [("wandb", {"WANDB_MODE": "offline"}), ("trackio", {})])
def test_a_resumed_run_goes_on_in_the_same_tracker(
    name: str, settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    for key, value in {**settings, "WANDB_DIR": str(tmp_path), "TRACKIO_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(key, value)
    for step in (0, 1):
        with tracked([name], "sft-1234", {"seed": 0}, tmp_path) as after:  # type: ignore[list-item]
            assert after is not None
            after(step, {"step": step, "loss": 3.0 - step})
    found = {path.name.rpartition("-")[2] for path in tmp_path.glob("wandb/*run-*")}
    assert found == ({"1234"} if name == "wandb" else set())
