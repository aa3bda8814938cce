"""Falling answers are said while they fall, each time they have fallen twice as far."""

from __future__ import annotations

import pytest

from burnish.training.falling import WINDOW, Falling


def said(values: list[float], start: float | None, capsys: pytest.CaptureFixture[str]) -> list[str]:
    falling = Falling("preference", "chosen answers", "nats", 1.0, start)
    for step, value in enumerate(values):
        falling.see(step, value)
    return [line.split(" less")[0] for line in capsys.readouterr().err.splitlines()]


def test_a_fall_is_said_when_it_doubles(capsys: pytest.CaptureFixture[str]) -> None:
    # Means of the steps so far: -0.5, -1, -1.5, -2 (next at 2), then -2.5, -3, -3.5, -4; of the last eight then -4.5
    values = [-0.5 - step for step in range(WINDOW)]
    assert said(values, 0.0, capsys) == [f"preference: at step {step} chosen answers are {fall} nats"
                                         for step, fall in ((1, 1), (3, 2), (7, 4))]  # fmt: skip


def test_one_step_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    # The mean of eight steps is -0.9 with one at -7.2
    assert said([0.0] * (WINDOW - 1) + [-7.2], 0.0, capsys) == []


def test_without_a_reference_the_first_steps_are_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    # From -5 on the mean of eight falls by 1/2 with each step at -9: by 1 at the second of them, by 2 at the fourth
    values = [-5.0] * WINDOW + [-9.0] * 4
    found = said(values, None, capsys)
    assert found == [
        "preference: at step 9 chosen answers are 1 nats",
        "preference: at step 11 chosen answers are 2 nats",
    ]
