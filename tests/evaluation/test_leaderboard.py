"""Win rates with and without length: sums by hand, a judge that likes length, and rows that are missing or broken."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from burnish.errors import EvaluationError
from burnish.evaluation.leaderboard import Controls, Judged, board, read_controls, read_judged, unknown_instructions
from burnish.evaluation.length_control import STRENGTH, Anchor, _likelihood, controlled, length_feature


def rows(labels: list[float], model: str = "m", lengths: list[tuple[int, int]] | None = None) -> list[Judged]:
    sizes = lengths or [(10, 10)] * len(labels)
    return [Judged(f"q{k}", model, f"{k:03}".ljust(one, "m"), "b" * other, label)
            for k, (label, (other, one)) in enumerate(zip(labels, sizes, strict=True))]  # fmt: skip


def test_raw_win_rate_and_its_standard_error() -> None:
    # Mean of 1, 0, 0.5, 0.5 is 0.5; deviations 0.5, -0.5, 0, 0: variance 0.5/3, standard error sqrt(1/6)/2 = 0.2041.
    (one,) = board(rows([1.0, 0.0, 0.5, 0.5]))
    assert one.win_rate == pytest.approx(50)
    assert one.win_rate_se == pytest.approx(100 * math.sqrt(1 / 6) / 2)
    assert one.n == 4


def test_without_length_differences_the_controlled_rate_is_the_raw_one_but_for_the_penalty() -> None:
    (one,) = board(rows([1.0] * 300 + [0.0] * 100))
    assert one.lc_win_rate == pytest.approx(75, abs=0.1)
    # Then the weights' noise is that of a share: sqrt(0.75 * 0.25 / 399) in percent.
    assert one.lc_win_rate_se == pytest.approx(100 * math.sqrt(0.1875 / 399), rel=0.01)


def test_the_fit_is_where_the_penalised_likelihood_is_greatest() -> None:
    rng = np.random.default_rng(0)
    length, hard = np.tanh(rng.normal(size=200)), rng.normal(size=200)
    labels = rng.random(200)
    anchor = Anchor(np.stack([length, hard, 0 * hard], axis=1), np.array([3.0, -2.0, 0.0]))
    found = controlled(labels, length, hard, anchor)
    best = np.array([found.length, found.hardness, found.model])
    x = np.stack([length, hard, np.ones(200)], axis=1)

    def objective(w: np.ndarray) -> float:
        return _likelihood(w, x, labels, anchor)[0] + float(np.abs(w).sum()) / STRENGTH

    for step in np.concatenate([np.eye(3), -np.eye(3)]) * 1e-3:
        assert objective(best + step) > objective(best)


def test_a_judge_that_likes_length_is_seen_through() -> None:
    """Truth: equal quality; the judge prefers the longer answer, and the model writes the longer ones."""
    rng = np.random.default_rng(1)
    lengths = [(1000, int(size)) for size in rng.normal(1300, 500, size=2000).clip(10)]
    feature = length_feature(*np.array(lengths, dtype=float).T)
    wins = rng.random(2000) < 1 / (1 + np.exp(2 * feature))
    (one,) = board(rows(wins.astype(float).tolist(), lengths=lengths))
    assert one.win_rate > 58
    assert abs(one.lc_win_rate - 50) < 2.5 * one.lc_win_rate_se


def test_the_standard_error_is_the_spread_over_new_samples() -> None:
    """Fits of 300 samples of one world: their spread is what the formula says, within its own noise (4 %)."""
    rng = np.random.default_rng(2)
    rates, stated = [], []
    for _ in range(300):
        difference, hard = rng.normal(-0.5, 1, size=400), rng.normal(size=400)
        length = length_feature(difference, np.zeros(400))
        labels = (rng.random(400) < 1 / (1 + np.exp(-(0.8 * length - 0.5 * hard + 0.3)))).astype(float)
        found = controlled(labels, length, hard)
        rates.append(found.win_rate)
        stated.append(found.stderr)
    assert np.mean(stated) == pytest.approx(np.std(rates), rel=0.15)


def test_hardness_is_looked_up_by_the_instruction_not_by_the_row() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(size=400)
    labels = (rng.random(400) < 1 / (1 + np.exp(-(1.5 * hard + 0.2)))).astype(float).tolist()
    lengths = [(int(a), int(b)) for a, b in rng.integers(50, 90, size=(400, 2))]
    every = rows(labels, lengths=lengths)
    controls = Controls({f"q{k}": float(value) for k, value in enumerate(hard)})
    assert board(every, controls) == board(every, controls)
    (whole,), (missing,) = board(every, controls), board(every[1:], controls)
    assert abs(whole.lc_win_rate - missing.lc_win_rate) < 0.5  # one row less, not all rows shifted
    (shuffled,) = board(list(reversed(every)), controls)
    assert shuffled.lc_win_rate == pytest.approx(whole.lc_win_rate)
    assert unknown_instructions([*every, Judged("new", "m", "a", "b", 1.0)], controls) == 1


def test_one_answer_to_everything_that_wins_raises_an_alarm() -> None:
    fooled = [Judged(f"q{k}", "null", "Pick me!", "a real answer", 0.9) for k in range(40)]
    honest = rows([0.9] * 40, "honest")
    poor = [Judged(f"q{k}", "poor", "Pick me!", "a real answer", 0.01) for k in range(40)]
    found = {one.model: one for one in board([*fooled, *honest, *poor])}
    assert "the judge is fooled" in found["null"].alarms[0]
    assert not found["honest"].alarms
    assert "fooled" not in found["poor"].alarms[0]


def test_a_verdict_that_could_not_be_read_is_counted_and_in_no_rate() -> None:
    given = rows([1.0, 0.0])
    (one,) = board([*given, Judged("q9", "m", "x", "y", None)])
    assert (one.n, one.unscored, one.win_rate) == (2, 1, 50)
    with pytest.raises(EvaluationError, match="no verdict on 'm'"):
        board([Judged("q", "m", "x", "y", None)])


@pytest.mark.parametrize(
    ("row", "message"),
    [({"preference": 3}, "between 1 and 2"), ({"preference": "left"}, "between 1 and 2"), ({}, "no 'preference'")],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    good = {"instruction": "q", "model": "m", "output": "a", "baseline_output": "b", "preference": 1.5}
    bad = {key: value for key, value in good.items() if key != "preference"} | row
    file = tmp_path / "judged.jsonl"
    file.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match=message) as caught:
        read_judged(file)
    assert caught.value.where.endswith("judged.jsonl:2")


def test_annotation_files_of_alpaca_eval_are_read_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    row = {"instruction": "q", "output_1": "base", "generator_1": "gpt", "output_2": "mine", "generator_2": "m"}
    file.write_text(json.dumps([{**row, "preference": value} for value in (2, 1.25, 0, None)]), encoding="utf-8")
    assert [one.label for one in read_judged(file)] == [1.0, 0.25, 0.5, None]
    assert read_judged(file)[0].output == "mine"


def test_controls_are_read_and_refused(tmp_path: Path) -> None:
    file = tmp_path / "lc.json"
    inputs = {
        "instructions": ["a", "b", "c"], "instruction_difficulty": [0.5, -0.5, 0.0],
        "baseline_output_length": [100, 100, 100], "gamed_output_length": {"verbose": [200, 300, 100],
        "concise": [50, 20, 90]}, "gamed_label_sufficient_stats": {"sum_y_tanh": -1.5, "sum_y_difficulty": 0.25},
    }  # fmt: skip
    file.write_text(json.dumps(inputs), encoding="utf-8")
    controls = read_controls(file)
    assert controls.hardness == {"a": 0.5, "b": -0.5, "c": 0.0}
    assert controls.anchor is not None and controls.anchor.features.shape == (6, 3)
    # Differences -100, -200, 0 have standard deviation 100: tanh of -1, -2 and 0.
    assert controls.anchor.features[:3, 0] == pytest.approx(np.tanh([-1, -2, 0]))
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(EvaluationError, match="no inputs of a length-controlled fit"):
        read_controls(file)
