"""Distillation: losses against full distributions, a student that becomes its teacher, and what must not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

import tiny
from burnish.errors import TrainingError
from burnish.models.chat import Rendered
from burnish.models.load import LanguageModel, load_model
from burnish.objectives.distill import Distill
from burnish.training.distill import train_distill
from burnish.training.optim import Optimization
from burnish.training.step import RunOptions
from burnish.types import Message
from training_parts import TEXTS, assert_resumes_to_the_same_bits, losses


@pytest.fixture(params=["llama", "gemma3", "lfm2"])
def student(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny.tiny_model(request.param, tmp_path / "student")


@pytest.fixture
def teacher(student: Path, tmp_path: Path) -> Path:
    """Wider than the student, with the same tokens."""
    kind = {"gemma3": "gemma3", "lfm2": "lfm2"}.get(
        load_model(student).config.model_type.removesuffix("_text"), "llama"
    )
    return tiny.tiny_model(kind, tmp_path / "teacher", seed=1, hidden_size=48, intermediate_size=96)


def rows(lm: LanguageModel, count: int = 8) -> list[Rendered]:
    return [
        lm.chat.render((Message("user", TEXTS[n % 6]), Message("assistant", f"{TEXTS[(n + 1) % 6]} {n}")))
        for n in range(count)
    ]


def distilled(
    student: Path, teacher: Path, out: Path, objective: Distill, dtype: str = "float32",
    run: RunOptions | None = None, **settings: object,
) -> LanguageModel:  # fmt: skip
    out.mkdir(exist_ok=True)
    lm = load_model(student, dtype=dtype)
    optimization = Optimization(**{"learning_rate": 1e-2, "batch_size": 8, "epochs": 12, **settings})  # type: ignore[arg-type]
    run = run or {"seed": 0, "folder": out}
    train_distill(lm, load_model(teacher, dtype=dtype), rows(lm), objective, optimization, **run)
    return lm


def logs(folder: Path, row: Rendered) -> Tensor:
    lm = load_model(folder, dtype="float32")
    with torch.no_grad():
        return lm.model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "js"])
def test_the_loss_is_the_mean_divergence_and_falls(
    student: Path, teacher: Path, divergence: Literal["forward_kl", "reverse_kl", "js"], tmp_path: Path
) -> None:
    distilled(student, teacher, tmp_path / "out", Distill(divergence=divergence, sft=0.1), max_steps=12)
    total = count = 0.0
    for row in rows(load_model(student, dtype="float32")):
        s, t = logs(student, row), logs(teacher, row)
        m = torch.logsumexp(torch.stack([s, t]), 0) - torch.log(torch.tensor(2.0))
        per = {"forward_kl": (t.exp() * (t - s)).sum(-1), "reverse_kl": (s.exp() * (s - t)).sum(-1),
               "js": 0.5 * (t.exp() * (t - m)).sum(-1) + 0.5 * (s.exp() * (s - m)).sum(-1)}[divergence]  # fmt: skip
        for place, weight in enumerate(row.weights):
            if weight:
                total += 0.9 * float(per[place - 1]) - 0.1 * float(s[place - 1, row.ids[place]])
                count += 1
    found = losses(tmp_path / "out")
    assert found[0] == pytest.approx(total / count, rel=1e-4)
    assert found[-1] < 0.8 * found[0]


def test_a_teacher_has_nothing_to_teach_itself(student: Path, tmp_path: Path) -> None:
    distilled(student, student, tmp_path / "out", Distill(), max_steps=2)
    assert losses(tmp_path / "out")[0] == pytest.approx(0.0, abs=1e-5)


def test_the_cut_into_micro_batches_changes_only_rounding(student: Path, teacher: Path, tmp_path: Path) -> None:
    distilled(student, teacher, tmp_path / "whole", Distill(), micro_tokens=100_000)
    distilled(student, teacher, tmp_path / "single", Distill(), micro_tokens=1)
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "single"), rel=1e-3)


def test_a_teacher_that_is_padded_teaches_a_packed_student_the_same(tmp_path: Path) -> None:
    """LFM2 cannot be packed, Llama can: the teacher's states find their places."""
    student, teacher = tiny.tiny_model("mistral", tmp_path / "s"), tiny.tiny_model("lfm2", tmp_path / "t")
    distilled(student, teacher, tmp_path / "mixed", Distill(), max_steps=1)
    total = count = 0.0
    for row in rows(load_model(student, dtype="float32")):
        s, t = logs(student, row), logs(teacher, row)
        for place, weight in enumerate(row.weights):
            if weight:
                total += float((t[place - 1].exp() * (t[place - 1] - s[place - 1])).sum())
                count += 1
    assert losses(tmp_path / "mixed")[0] == pytest.approx(total / count, rel=1e-4)


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    student, teacher = (tiny.tiny_model("llama", tmp_path / name, seed) for seed, name in enumerate("st"))

    def train(run: RunOptions) -> LanguageModel:
        return distilled(student, teacher, run["folder"], Distill(), dtype="bfloat16", run=run, epochs=5)

    assert_resumes_to_the_same_bits(train, tmp_path)


def test_rows_beyond_the_teachers_context_are_refused(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("llama", tmp_path / "s"), dtype="float32")
    narrow = load_model(tiny.tiny_model("llama", tmp_path / "t", max_position_embeddings=32), dtype="float32")
    long = sum(len(row.ids) > 32 for row in rows(lm))
    with pytest.raises(TrainingError, match=f"{long} of 8 rows are longer than the teacher's context") as caught:
        train_distill(lm, narrow, rows(lm), Distill(), Optimization(), seed=0, folder=tmp_path)
    assert long > 0 and "max_tokens: 32" in caught.value.hint


def test_other_tokens_are_refused(tmp_path: Path) -> None:
    lm = load_model(tiny.tiny_model("llama", tmp_path / "s"), dtype="float32")
    other = load_model(tiny.tiny_model("llama", tmp_path / "t"), dtype="float32")
    other.tokenizer.add_tokens(["newword"])
    with pytest.raises(TrainingError, match="do not have the same tokens"):
        train_distill(lm, other, rows(lm), Distill(), Optimization(), seed=0, folder=tmp_path)
