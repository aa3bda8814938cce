"""What several tests of the training loops share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from burnish.models.adapters import Lora, attach
from burnish.models.load import LanguageModel, load_model
from burnish.objectives.dpo import DPO
from burnish.objectives.parts import PairObjective
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, pair_reference, train_preference
from burnish.training.state import CHECKPOINT, METRICS, TrainResult
from burnish.training.step import RunOptions
from burnish.types import Message

TEXTS = ["the quick brown fox", "What is 17 plus 25?", "A b c d e f g", "lazy dog", "jumps over the lazy dog", "42."]


def weights(lm: LanguageModel) -> dict[str, Tensor]:
    """All of a model's, those of experts as four bits hold them."""
    named = lm.model.named_parameters()
    return {name: getattr(parameter, "packed", parameter).detach().clone() for name, parameter in named}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The distance of two models' weights over the length of one's.

    Where a gradient is all but zero, Adam's first steps are its sign times the learning rate: rounding alone moves
    single weights, so no bound on the largest difference holds on every machine. Of the whole, 0.0002 was seen.
    """
    difference = sum((one[name].double() - other[name].double()).square().sum() for name in one)
    length = sum(one[name].double().square().sum() for name in one)
    return float((difference / length) ** 0.5)


def metrics(out: Path) -> list[dict[str, float]]:
    """Every step's metrics but its time."""
    found = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", "utilisation")} for row in found]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in metrics(out)]


def assert_losses_agree(out: Path, other: Path) -> None:
    """Two runs that may differ by the order of their sums: closely at first, then as far as Adam spreads rounding."""
    found, expected = losses(out), losses(other)
    assert found[:2] == pytest.approx(expected[:2], abs=1e-5)
    assert found == pytest.approx(expected, abs=1e-3)


class Killed(BaseException):
    """Stands for `kill -9`: nothing may catch it."""


def options(folder: Path, last: int | None = None) -> RunOptions:
    """Of a run that writes a checkpoint after every step, and is killed before it writes that of step `last`."""

    def after(step: int, row: dict[str, float]) -> None:
        if step == last:
            raise Killed

    folder.mkdir(exist_ok=True)
    return {"seed": 0, "folder": folder, "checkpoint_every_s": 0.0, "after": after}


def progress(out: Path) -> dict[str, object]:
    """What the checkpoint in a run's folder says of it, but the time."""
    found = torch.load(out / CHECKPOINT, weights_only=True)["progress"]
    return {name: value for name, value in found.items() if name != "seconds"}


def assert_resumes_to_the_same_bits(train: Callable[[RunOptions], LanguageModel], folder: Path) -> None:
    """A run that is killed and started again ends as one that was not, and so does one that was killed when all its
    steps were done. `train` takes at least five steps and gives the model."""
    whole, killed = folder / "whole", folder / "killed"
    expected = weights(train(options(whole)))
    with pytest.raises(Killed):
        train(options(killed, last=3))
    assert progress(killed)["step"] == 3 and len(metrics(killed)) == 4  # the fourth is done again
    for _ in ("killed at a step", "killed after the last, while its model was being saved"):
        assert same(expected, weights(train(options(killed))))
        assert metrics(whole) == metrics(killed) and progress(whole) == progress(killed)


def pairs(lm: LanguageModel, count: int = 8) -> list[RenderedPair]:
    return [
        RenderedPair(
            lm.chat.answer_ids((Message("user", TEXTS[n % 6]),), f"good {n}"),
            lm.chat.answer_ids((Message("user", TEXTS[n % 6]),), f"bad answer {TEXTS[n % 5]}"),
        )
        for n in range(count)
    ]


def align(
    folder: Path, out: Path, lora: Lora | None = None, objective: PairObjective | None = None, dtype: str = "float32",
    run: RunOptions | None = None, **settings: object,
) -> tuple[LanguageModel, TrainResult]:  # fmt: skip
    out.mkdir(exist_ok=True)
    lm = load_model(folder, dtype=dtype)
    optimization = Optimization(**{"learning_rate": 1e-3, "batch_size": 4, "epochs": 3, **settings})  # type: ignore[arg-type]
    reference = pair_reference(lm, pairs(lm), out, optimization, 0)
    lm = attach(lm, lora, seed=1) if lora else lm
    run = run or {"seed": 0, "folder": out}
    return lm, train_preference(lm, pairs(lm), reference, objective or DPO(), optimization, **run)
