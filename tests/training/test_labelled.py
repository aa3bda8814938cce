"""KTO's loop: foreign answers, the estimate of how far the policy has moved, and what must not matter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from burnish.errors import TrainingError
from burnish.models.load import LanguageModel, load_model
from burnish.objectives.kto import KTO
from burnish.training import labelled
from burnish.training.labelled import RenderedAnswer, labelled_reference, train_labelled, with_foreign_answers
from burnish.training.optim import Optimization
from burnish.training.step import RunOptions
from burnish.types import Message
from training_parts import TEXTS, assert_losses_agree, assert_resumes_to_the_same_bits, metrics


@pytest.fixture(params=["llama", "lfm2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny.tiny_model(request.param, tmp_path / "model")


def rows(lm: LanguageModel, count: int = 8) -> list[RenderedAnswer]:
    return [
        RenderedAnswer(lm.chat.answer_ids((Message("user", TEXTS[n % 6]),), f"{TEXTS[(n + 2) % 6]} {n}"), n % 3 > 0)
        for n in range(count)
    ]


def align(
    folder: Path, out: Path, objective: KTO | None = None, dtype: str = "float32", run: RunOptions | None = None,
    **settings: object,
) -> LanguageModel:  # fmt: skip
    out.mkdir(exist_ok=True)
    lm = load_model(folder, dtype=dtype)
    objective = objective or KTO()
    optimization = Optimization(**{"learning_rate": 3e-3, "batch_size": 4, "epochs": 8, **settings})  # type: ignore[arg-type]
    reference = labelled_reference(lm, rows(lm), objective, out, optimization, 0)
    train_labelled(lm, rows(lm), reference, objective, optimization, **(run or {"seed": 0, "folder": out}))
    return lm


@pytest.mark.parametrize("variant", ["kto", "apo_zero"])
def test_good_answers_rise_and_bad_ones_fall(folder: Path, variant: str, tmp_path: Path) -> None:
    align(folder, tmp_path / "out", KTO(variant=variant))  # type: ignore[arg-type]
    found = metrics(tmp_path / "out")
    # at the start every ratio is 0, so each answer loses 1 - sigmoid(0)
    assert found[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    assert found[-1]["loss"] < 0.4 and found[-1]["good_gain"] > 0 > found[-1]["bad_gain"]
    assert all(row["moved"] >= 0 for row in found) and (variant == "kto") == any(row["moved"] > 0 for row in found)


def test_the_cut_into_micro_batches_changes_only_rounding(folder: Path, tmp_path: Path) -> None:
    align(folder, tmp_path / "whole", micro_tokens=100_000)
    align(folder, tmp_path / "single", micro_tokens=1)
    assert_losses_agree(tmp_path / "whole", tmp_path / "single")


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    model = tiny.tiny_model("llama", tmp_path / "model")

    def train(run: RunOptions) -> LanguageModel:
        return align(model, run["folder"], dtype="bfloat16", run=run, epochs=3)

    assert_resumes_to_the_same_bits(train, tmp_path)


def test_moved_is_the_mean_ratio_of_foreign_answers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a policy that is not the reference: taken from plain forward passes, and never below zero."""
    lm, other = (
        load_model(folder, dtype="float32"),
        load_model(tiny.tiny_model("llama", tmp_path / "o", 1), dtype="float32"),
    )

    def plain(model: LanguageModel, row: tuple[int, ...], start: int) -> float:
        with torch.no_grad():
            values = model.model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
        return sum(float(values[place - 1, row[place]]) for place in range(start, len(row)))

    made = rows(lm, 4)
    foreign = with_foreign_answers([row.answer for row in made], lm.context)
    ratios = []
    for row, away in zip(made, foreign, strict=True):
        start = row.answer.turns[-1].start
        stop = max(place for place, weight in enumerate(away.weights) if weight) + 1
        ratios.append(plain(lm, away.ids[:stop], start) - plain(other, away.ids[:stop], start))
    reference = labelled_reference(other, made, KTO(), tmp_path, Optimization(), 0)
    seen: list[float] = []

    class Seen(KTO):
        def loss(self, ratios: torch.Tensor, good: torch.Tensor, moved: float):  # type: ignore[no-untyped-def]
            seen.append(moved)
            return super().loss(ratios, good, moved)

    with pytest.raises(TrainingError, match="nats a token apart before the first step"):
        train_labelled(lm, made, reference, Seen(), Optimization(batch_size=4), seed=0, folder=tmp_path)
    monkeypatch.setattr(labelled, "refuse_other_start", lambda *_: None)
    train_labelled(lm, made, reference, Seen(), Optimization(batch_size=4), seed=0, folder=tmp_path)
    assert seen[0] == pytest.approx(max(0.0, sum(ratios) / 4), abs=1e-3)


def test_foreign_answers_stand_behind_their_own_prompts(folder: Path) -> None:
    lm = load_model(folder, dtype="float32")
    made = [row.answer for row in rows(lm, 6)]
    for number, away in enumerate(with_foreign_answers(made, lm.context)):
        own, other = made[number], made[(number + 3) % 6]
        start = own.turns[-1].start
        assert away.ids == own.ids[:start] + other.ids[other.turns[-1].start :]
        assert not any(away.weights[:start]) and any(away.weights[start:])
    # the same prompts, good answers first and bad ones behind: half of the rows away stands the prompt itself
    both = [lm.chat.answer_ids((Message("user", text),), f"{text} {good}") for good in "ab" for text in TEXTS]
    for own, away in zip(both, with_foreign_answers(both, lm.context), strict=True):
        start = own.turns[-1].start
        others = [
            other.ids[other.turns[-1].start :]
            for other in both
            if other.ids[: other.turns[-1].start] != own.ids[:start]
        ]
        assert away.ids[:start] == own.ids[:start] and away.ids[start:] in others
    # where nothing else fits, a row stands for itself
    longest = max(len(row.ids) for row in made)
    assert all(len(row.ids) <= longest for row in with_foreign_answers(made, longest))
    assert with_foreign_answers(made[:1], 1)[0].ids == made[0].ids
