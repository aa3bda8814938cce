"""Looking at a model while it trains: best weights are kept, training stops early, and a killed run knows it all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from burnish.errors import TrainingError
from burnish.models.load import LanguageModel, load_model
from burnish.objectives.sft import SFT
from burnish.training.optim import Optimization
from burnish.training.state import TrainResult
from burnish.training.supervised import train_supervised
from burnish.training.watch import BEST, LOOKS, Seen, Watch
from burnish.types import Message
from training_parts import TEXTS, metrics, weights

SCORES = {2: 0.1, 4: 0.6, 6: 0.5, 8: 0.6, 10: 0.7, 12: 0.2}
"""What a dev task says after so many steps."""


class _Killed(Exception):
    pass


def watched(folder: Path, out: Path, patience: int | None = None, die_at: int | None = None, max_steps: int = 12
            ) -> tuple[LanguageModel, TrainResult, dict[int, dict[str, torch.Tensor]]]:  # fmt: skip
    out.mkdir(exist_ok=True)
    lm = load_model(folder, dtype="float32")
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def measure(step: int) -> Seen:
        assert not lm.model.training
        torch.rand(3)  # a measurement that draws random numbers changes nothing
        seen[step] = weights(lm)
        return Seen(SCORES[step], 0.0, 1.0)

    def after(step: int, row: dict[str, float]) -> None:
        assert lm.model.training
        if step == die_at:
            raise _Killed

    rows = [lm.chat.render((Message("user", text), Message("assistant", f"yes {text}"))) for text in TEXTS]
    settings = Optimization(learning_rate=1e-2, batch_size=2, epochs=4, max_steps=max_steps, schedule="constant")
    result = train_supervised(lm, rows, SFT(), settings, seed=0, folder=out, checkpoint_every_s=0.0, after=after,
                              watch=Watch(measure, 2, patience))  # fmt: skip
    return lm, result, seen


def test_the_best_weights_are_kept(llama: Path, tmp_path: Path) -> None:
    lm, result, seen = watched(llama, tmp_path / "out")
    assert result.looks == [[step, score, 0.0, 1.0] for step, score in SCORES.items()]
    assert (result.steps, result.best_step) == (12, 10)
    assert all(torch.equal(value, seen[10][name]) for name, value in weights(lm).items())
    rows = [json.loads(line) for line in (tmp_path / "out" / LOOKS).read_text().splitlines()]
    assert rows[1] == {"step": 4, "score": 0.6, "low": 0.0, "high": 1.0}


def test_training_stops_when_nothing_gets_better(llama: Path, tmp_path: Path) -> None:
    lm, result, seen = watched(llama, tmp_path / "out", patience=2)
    # 0.6 after 4 steps; 0.5 is worse and 0.6 no better
    assert (result.steps, result.best_step) == (8, 8) and sorted(seen) == [2, 4, 6, 8]
    assert all(torch.equal(value, seen[8][name]) for name, value in weights(lm).items())
    assert (tmp_path / "out" / BEST).exists()


def test_a_look_without_a_score_stops_training(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, 4, float("nan"))
    with pytest.raises(TrainingError, match="dev has no score after step 4"):
        watched(llama, tmp_path / "out")


def test_the_last_step_is_looked_at(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, 11, 0.9)
    _, result, _ = watched(llama, tmp_path / "out", max_steps=11)
    assert result.looks[-1] == [11, 0.9, 0.0, 1.0] and result.best_step == 11


@pytest.mark.parametrize("die_at", [4, 7])
def test_a_killed_run_knows_its_looks(llama: Path, die_at: int, tmp_path: Path) -> None:
    whole, expected, _ = watched(llama, tmp_path / "whole", patience=3)
    with pytest.raises(_Killed):
        watched(llama, tmp_path / "out", patience=3, die_at=die_at)
    lm, result, seen = watched(llama, tmp_path / "out", patience=3)
    assert 4 not in seen and (result.looks, result.best_step) == (expected.looks, expected.best_step)
    assert all(torch.equal(value, weights(lm)[name]) for name, value in weights(whole).items())
    assert metrics(tmp_path / "out") == metrics(tmp_path / "whole")


def test_a_run_that_was_over_stays_over(llama: Path, tmp_path: Path) -> None:
    first, _, _ = watched(llama, tmp_path / "out", patience=2)
    again, result, seen = watched(llama, tmp_path / "out", patience=2)
    assert not seen and result.steps == 8
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(first).items())
