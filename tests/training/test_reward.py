"""Reward models learn to tell answers and steps apart, read by transformers as by us."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import tiny
from burnish.errors import ModelError
from burnish.models.adapters import Lora, attach
from burnish.models.load import LanguageModel, load_model
from burnish.models.scores import at_the_steps, score_answers, score_steps
from burnish.objectives.reward import BradleyTerry, Steps
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair
from burnish.training.reward import RenderedSteps, train_reward, train_steps
from burnish.training.step import RunOptions
from burnish.types import Example, Message
from training_parts import TEXTS, assert_resumes_to_the_same_bits, losses, metrics

SETTINGS = {"learning_rate": 1e-2, "batch_size": 4, "epochs": 8}


@pytest.fixture(params=["llama", "qwen3", "gemma3", "mistral"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny.tiny_model(request.param, tmp_path / "model")


def prompt(number: int) -> tuple[Message, ...]:
    return (Message("user", TEXTS[number % 6]),)


def pairs(lm: LanguageModel, count: int = 8) -> list[RenderedPair]:
    return [
        RenderedPair(
            lm.chat.answer_ids(prompt(n), f"good {n}"), lm.chat.answer_ids(prompt(n), f"bad {n}"), margin=n / 4
        )
        for n in range(count)
    ]


def rewarded(
    folder: Path, out: Path, objective: BradleyTerry | None = None, lora: Lora | None = None, dtype: str = "float32",
    run: RunOptions | None = None, **settings: object,
) -> LanguageModel:  # fmt: skip
    out.mkdir(exist_ok=True)
    lm = load_model(folder, dtype=dtype, gives="scores")
    lm = attach(lm, lora, 0) if lora else lm
    optimization = Optimization(**{**SETTINGS, **settings})  # type: ignore[arg-type]
    run = run or {"seed": 0, "folder": out}
    train_reward(lm, pairs(lm), objective or BradleyTerry(), optimization, **run)
    return lm


def test_it_starts_without_an_opinion_and_learns_one(folder: Path, tmp_path: Path) -> None:
    rewarded(folder, tmp_path / "out")
    found = metrics(tmp_path / "out")
    assert found[0]["loss"] == pytest.approx(0.693147, abs=1e-5)  # log 2: both scores are zero
    assert found[-1]["accuracy"] == 1.0 and found[-1]["loss"] < 0.3


@pytest.mark.parametrize("lora", [None, Lora(rank=4)])
def test_transformers_gives_the_same_scores(folder: Path, lora: Lora | None, tmp_path: Path) -> None:
    lm = rewarded(folder, tmp_path / "out", lora=lora)
    lm.save(tmp_path / "saved")
    rows = [(prompt(n), f"{word} {n}") for n in range(3) for word in ("good", "bad")]
    ours = score_answers(lm, rows)
    again = load_model(tmp_path / "saved", dtype="float32", gives="scores")
    assert score_answers(again, rows) == pytest.approx(ours, abs=1e-5)
    assert all(good > bad for good, bad in zip(ours[::2], ours[1::2], strict=True))
    if lora is None:
        theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
        for (asked, answer), score in zip(rows, ours, strict=True):
            row = lm.chat.answer_ids(asked, answer)
            stop = max(place for place, weight in enumerate(row.weights) if weight) + 1
            with torch.no_grad():
                assert float(theirs(input_ids=torch.tensor([row.ids[:stop]])).logits) == pytest.approx(score, abs=1e-4)


def test_margins_ask_for_larger_differences(folder: Path, tmp_path: Path) -> None:
    rewarded(folder, tmp_path / "plain")
    rewarded(folder, tmp_path / "wide", BradleyTerry(margins=True, margin_scale=4.0))
    assert metrics(tmp_path / "wide")[-1]["difference"] > metrics(tmp_path / "plain")[-1]["difference"]


def test_the_cut_into_micro_batches_changes_only_rounding(folder: Path, tmp_path: Path) -> None:
    rewarded(folder, tmp_path / "whole", micro_tokens=100_000)
    rewarded(folder, tmp_path / "single", micro_tokens=1)
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "single"), abs=1e-3)


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_a_killed_run_resumes_to_the_same_bits(lora: Lora | None, tmp_path: Path) -> None:
    model = tiny.tiny_model("llama", tmp_path / "model")

    def train(run: RunOptions) -> LanguageModel:
        return rewarded(model, run["folder"], lora=lora, dtype="bfloat16", run=run, epochs=3)

    assert_resumes_to_the_same_bits(train, tmp_path)


# ---------------------------------------------------------------------------------------------------------------- steps


def stepwise(number: int) -> Example:
    steps = ["one right step", f"then {number}", "a wrong step"][: 2 + number % 2]
    labels = tuple(0.0 if "wrong" in step else 1.0 for step in steps)
    return Example(str(number), (*prompt(number), Message("assistant", "\n\n".join(steps))), step_labels=labels)


def marked(lm: LanguageModel, row: Example) -> RenderedSteps:
    rendered = lm.chat.answer_ids(row.messages[:-1], row.messages[-1].content)
    return RenderedSteps(at_the_steps(rendered, len(row.step_labels), lm.tokenizer), row.step_labels)


def test_steps_are_marked_where_they_end(folder: Path) -> None:
    lm = load_model(folder, dtype="float32")
    row = marked(lm, stepwise(1)).row
    marks = [place for place, weight in enumerate(row.weights) if weight]
    texts = [lm.tokenizer.decode(row.ids[row.turns[-1].start : mark + 1]) for mark in marks]
    assert texts[0] == "one right step\n\n" and texts[1] == "one right step\n\nthen 1\n\n"
    assert row.ids[marks[2]] in lm.chat.stop_ids and len(marks) == 3
    with pytest.raises(ValueError, match="3 steps as it is tokenized, and 2 labels"):
        at_the_steps(row, 2, lm.tokenizer)


def test_a_process_reward_model_finds_the_wrong_steps(folder: Path, tmp_path: Path) -> None:
    lm = load_model(folder, dtype="float32", gives="scores")
    rows = [stepwise(number) for number in range(8)]
    settings = Optimization(**{**SETTINGS, "epochs": 20})  # type: ignore[arg-type]
    train_steps(lm, [marked(lm, row) for row in rows], Steps(), settings, seed=0, folder=tmp_path)
    assert metrics(tmp_path)[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    for row, chances in zip(rows, score_steps(lm, rows), strict=True):
        assert len(chances) == len(row.step_labels)
        assert [chance > 0.5 for chance in chances] == [label > 0.5 for label in row.step_labels]


def test_a_model_without_such_a_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tiny.tiny_model("lfm2", tmp_path / "model"), gives="scores")


def test_a_reward_model_gives_no_text(tmp_path: Path) -> None:
    lm = rewarded(tiny.tiny_model("llama", tmp_path / "model"), tmp_path / "out", epochs=1)
    lm.save(tmp_path / "saved")
    with pytest.raises(ModelError, match="gives scores and no text"):
        load_model(tmp_path / "saved")
