"""Kept answers: nothing is asked twice, other weights or settings are other questions, a kill loses one part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import tiny
from burnish.engines import responses
from burnish.engines.base import Prompt
from burnish.engines.opening import open_model
from burnish.engines.responses import CachedEngine, Responses
from burnish.engines.scripted import Scripted
from burnish.errors import EngineError
from burnish.types import Completion, Message, Sampling, StopReason

ASKED = [(Message("user", f"question {k}"),) for k in range(6)]


def echo(prompt: Prompt, sample: int) -> str:
    return f"{prompt if isinstance(prompt, str) else prompt[-1].content} {sample}"


def test_an_answer_is_asked_once(tmp_path: Path) -> None:
    inner = Scripted(echo)
    first = CachedEngine(inner, Responses(tmp_path / "kept.sqlite"), "weights").generate(ASKED[:4], Sampling(), n=2)
    again = CachedEngine(inner, Responses(tmp_path / "kept.sqlite"), "weights")
    assert again.generate([*ASKED, ASKED[0]], Sampling(), n=2)[:4] == first
    assert again.reused == 5 and inner.usage.calls == 6  # four were kept, two are new, one is asked twice at once


@pytest.mark.parametrize("change", ["weights", "sampling", "n", "prompt"])
def test_another_question_is_another_answer(tmp_path: Path, change: str) -> None:
    inner, kept = Scripted(echo), Responses(tmp_path / "kept.sqlite")
    CachedEngine(inner, kept, "weights").generate(ASKED[:1], Sampling(seed=1), n=1)
    other = CachedEngine(inner, kept, "other" if change == "weights" else "weights")
    prompt = (*ASKED[0], Message("assistant", "x"), Message("user", "y")) if change == "prompt" else ASKED[0]
    other.generate([prompt], Sampling(seed=2 if change == "sampling" else 1), n=2 if change == "n" else 1)
    assert other.reused == 0 and inner.usage.calls == 2


def test_what_was_answered_before_a_kill_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "WRITTEN", 2)
    asked: list[str] = []

    def dying(prompt: Prompt, sample: int) -> str:
        asked.append(prompt[-1].content)  # type: ignore[union-attr]
        if len(asked) == 5:
            raise KeyboardInterrupt
        return "fine"

    engine = CachedEngine(Scripted(dying), Responses(tmp_path / "kept.sqlite"), "weights")
    with pytest.raises(KeyboardInterrupt):
        engine.generate(ASKED, Sampling())
    assert [group[0].text for group in engine.generate(ASKED, Sampling())] == ["fine"] * 6
    assert asked[5:] == ["question 4", "question 5"]  # the first four were kept in two parts


def test_a_failed_request_is_asked_again(tmp_path: Path) -> None:
    class Flaky(Scripted):
        def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
            self.usage.calls += len(prompts)
            return [[Completion("timeout", stop=StopReason.FAILED)] for _ in prompts]

    inner = Flaky(["unused"])
    engine = CachedEngine(inner, Responses(tmp_path / "kept.sqlite"), "weights")
    engine.generate(ASKED[:2], Sampling())
    engine.generate(ASKED[:2], Sampling())
    assert inner.usage.calls == 4 and engine.reused == 0


def test_local_answers_and_scores_come_back_bit_for_bit(tmp_path: Path) -> None:
    folder, kept = str(tiny.tiny_model("llama", tmp_path / "model")), tmp_path / "kept.sqlite"
    first, second = (open_model(folder, kept=kept) for _ in range(2))
    sampling, options = Sampling(6, 1.0, seed=2), [["a", "b c"]] * len(ASKED)
    written, scored = first.generate(ASKED, sampling, 2), first.choices(ASKED, options)
    assert second.generate(ASKED, sampling, 2) == written and second.choices(ASKED, options) == scored
    assert isinstance(second, CachedEngine) and second.reused == 12 and second.usage.calls == 0
    other = open_model(str(tiny.tiny_model("llama", tmp_path / "other", seed=1)), kept=kept)
    assert other.choices(ASKED, options) != first.choices(ASKED, options)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "kept.sqlite").write_bytes(b"this is no database at all, whatever it was" * 40)
    with pytest.raises(EngineError, match="kept answers cannot be used") as caught:
        Responses(tmp_path / "kept.sqlite")
    assert "only saves time" in caught.value.hint
