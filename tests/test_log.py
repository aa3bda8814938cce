"""How far work is, said in lines where no bar can move."""

from __future__ import annotations

import pytest

from burnish import log


def test_progress_is_said_in_lines_off_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
                                                  ) -> None:  # fmt: skip
    now = 0.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    with log.ticker("sft", 100, "steps", done=20) as tick:
        for step in range(10):
            now += 10.0
            tick.tell(f"loss {step}")
            tick.advance(2)
    # Two steps every ten seconds, a line after the third time, the sixth and the ninth: 26, 32 and 38 of 100 are done.
    # Of the 74, 68 and 62 that are left each takes five seconds. What was done before is not of this rate.
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["sft: 26 of 100 steps, 0.2 steps/s, 0:06:10 left, loss 2",
                     "sft: 32 of 100 steps, 0.2 steps/s, 0:05:40 left, loss 5",
                     "sft: 38 of 100 steps, 0.2 steps/s, 0:05:10 left, loss 8"]  # fmt: skip


def test_short_work_says_nothing_and_work_without_an_end_says_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    assert list(log.progress(range(3), "rows", "rows")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    with log.ticker("reading", None, "rows") as tick:
        now += 40.0
        tick.advance(4000)
    assert capsys.readouterr().err == "reading: 4,000 rows, 100 rows/s\n"


def test_what_a_process_would_repeat_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("one thing here", "another here", "one thing here"):
        log.note_once(text)
    assert capsys.readouterr().err.splitlines() == ["one thing here", "another here"]
