"""The proofs hold on models of several families, and fail where something is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from burnish.models.chat import Rendered
from burnish.models.load import LanguageModel, load_model
from burnish.objectives.dpo import DPO
from burnish.objectives.parts import LossOutput
from burnish.objectives.reward import BradleyTerry
from burnish.objectives.sft import SFT
from burnish.steps.preference import render_answer, single_answers
from burnish.steps.rendering import render_pair
from burnish.training import checks
from burnish.training.optim import MasterOptimizer, Optimization
from burnish.training.step import After
from burnish.training.supervised import train_supervised
from burnish.types import Example, Message, PreferencePair

CHATS = [
    (Message("user", "What is 17 plus 25?"), Message("assistant", f"It is {n}."), Message("user", "Why?"),
     Message("assistant", "a b c d e f g " * n))
    for n in range(1, 5)
]  # fmt: skip
ROWS = len(CHATS)
TRAIN = Optimization(learning_rate=1e-3)


def rows(lm: LanguageModel) -> list[Rendered]:
    return [lm.chat.render(messages) for messages in CHATS]


def fit_of(folder: Path, dtype: str = "float32", objective: SFT | None = None,
           change: Callable[[LanguageModel], None] = lambda lm: None) -> checks.Fit:  # fmt: skip
    """Supervised training on CHATS; `change` is made to every model that is loaded."""

    def fit(train: Optimization, out: Path, way: checks.Way, after: After | None) -> LanguageModel:
        lm = load_model(folder, dtype=dtype if way == "own" else "float32")
        change(lm)
        if way == "plain":
            lm.trees = False
        train_supervised(lm, rows(lm), objective or SFT(), train, seed=0, folder=out, checkpoint_every_s=0.0,
                         after=after)  # fmt: skip
        return lm

    return fit


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return tiny.tiny_model("llama", tmp_path)


@pytest.mark.parametrize("kind", tiny.MORE)
def test_they_hold(kind: str, tmp_path: Path) -> None:
    folder = tiny.tiny_model(kind, tmp_path)
    lm = load_model(folder, dtype="float32")
    conversations = list(zip(CHATS, rows(lm), strict=True))
    found = [
        checks.served_as_trained(lm.chat, conversations),
        checks.stops_are_learned(lm.chat, conversations),
        *checks.cut_as_whole(fit_of(folder), TRAIN, ROWS),
        checks.resumed_as_uninterrupted(fit_of(folder, "bfloat16"), TRAIN, ROWS),
    ]
    assert [one.name for one in found if not one.holds] == []
    assert ("as token trees" in found[3].detail) == (kind != "lfm2")  # its convolutions cannot be packed


# ------------------------------------------------------------------------------------------------------ rows as tokens


def test_ids_that_are_not_those_of_serving_are_found(llama: Path) -> None:
    """Two answers a row; the row asked with another first question differs before both."""
    lm = load_model(llama)
    (row,) = rows(lm)[:1]
    assert checks.served_as_trained(lm.chat, [(CHATS[0], row)]).difference == 0
    asked = (Message("user", "What is 1 plus 2?"), *CHATS[0][1:])
    assert checks.served_as_trained(lm.chat, [(asked, row)]).difference == 2


def test_a_stop_token_that_is_not_learned_is_found(llama: Path) -> None:
    lm = load_model(llama)
    (row,) = rows(lm)[:1]
    last = row.turns[-1].stop - 1
    weights = tuple(0.0 if place == last else weight for place, weight in enumerate(row.weights))
    found = checks.stops_are_learned(lm.chat, [(CHATS[0], replace(row, weights=weights))])
    assert not found.holds and found.difference == 1
    assert found.detail == "2 answers end with <|im_end|>; generation stops at <|im_end|>"


def test_conversations_are_weighed_as_their_loss_weighs_them(llama: Path) -> None:
    chat = load_model(llama).chat
    pair = PreferencePair("one", (Message("user", "Say a"),), chosen="a b c", rejected="a")

    def learned(rendered: list[Any], objective: Any) -> list[list[float]]:
        found = checks.conversations([pair], rendered, objective)
        assert [messages[-1].content for messages, _ in found] == ["a b c", "a"]
        return [[weight for weight in row.weights if weight] for _, row in found]

    both = render_pair(chat, pair)
    long, short = (len([weight for weight in row.weights if weight]) for row in (both.chosen, both.rejected))
    assert learned([both], DPO()) == [[1.0] * long, [1.0] * short]
    assert learned([both], DPO(tail=0.5)) == [[1.0] * short + [0.5] * (long - short), [1.0] * short]
    assert learned([both], BradleyTerry()) == [[1.0], [1.0]]  # the score is read at the stop token
    apart = [render_answer(chat, row) for row in single_answers(pair)]
    assert learned(apart, DPO()) == [[1.0] * long, [1.0] * short]
    labelled = Example("two", (Message("user", "Say a"), Message("assistant", "a")), label=1.0)
    assert checks.conversations([labelled], [render_answer(chat, labelled)], DPO())[0][0] == labelled.messages


# ----------------------------------------------------------------------------------------------------------- gradients


class Doubled(SFT):
    """Counts a row twice where it is alone in its micro-batch."""

    def loss(self, logprobs: Tensor, weights: Tensor) -> LossOutput:
        alone = len(weights) <= self.longest
        return LossOutput(super().loss(logprobs, weights).total * (2 if alone else 1))

    longest: int = 0
    """Learned tokens of the longest row."""


def test_how_far_gradients_are_apart(llama: Path) -> None:
    """Every row alone counts twice: |2g - g| / |g| = 1, one by one, and each alone."""
    longest = max(int(sum(row.weights)) for row in rows(load_model(llama)))
    cut, shared = checks.cut_as_whole(fit_of(llama, objective=Doubled(longest=longest)), TRAIN, ROWS)
    assert cut.difference == pytest.approx(1, abs=1e-4) and shared.difference == pytest.approx(1, abs=1e-4)
    assert not cut.holds and not shared.holds


def test_a_gradient_of_zero_proves_nothing(llama: Path) -> None:
    class Nothing(SFT):
        def loss(self, logprobs: Tensor, weights: Tensor) -> LossOutput:
            return LossOutput(logprobs.sum() * 0)

    found = checks.cut_as_whole(fit_of(llama, objective=Nothing()), TRAIN, ROWS)
    assert [one.holds for one in found] == [False, False] and all(math.isnan(one.difference) for one in found)


def test_rows_that_see_each_other_are_found(tmp_path: Path) -> None:
    def pack(lm: LanguageModel) -> None:
        lm.trees = True  # its convolutions cannot be packed

    _, shared = checks.cut_as_whole(fit_of(tiny.tiny_model("lfm2", tmp_path), change=pack), TRAIN, ROWS)
    assert shared.name == "together = alone" and not shared.holds


def test_dropout_is_taken_out_wherever_it_is() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
    model[0].attention_dropout = 0.3
    checks.quieten(model)
    assert model[1].p == 0 and model[0].attention_dropout == 0


# -------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
def test_an_optimiser_that_forgets_is_found(optimizer: str, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = TRAIN.model_copy(update={"optimizer": optimizer})
    found = checks.resumed_as_uninterrupted(fit_of(llama), train, ROWS)
    assert found.holds and found.detail == f"{optimizer} killed in step 3 of 4, to the same bits"
    real = MasterOptimizer.restore
    monkeypatch.setattr(MasterOptimizer, "restore", lambda self, state: real(
        self, {**state, "moments": [{} for _ in state["moments"]]}))  # fmt: skip
    assert not checks.resumed_as_uninterrupted(fit_of(llama), train, ROWS).holds


def test_noise_that_is_not_restored_is_found(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(lm: LanguageModel) -> None:
        for layer in lm.model.model.layers:
            layer.mlp.register_forward_hook(lambda module, given, out: torch.dropout(out, 0.5, module.training))

    fit = fit_of(llama, change=noisy)
    assert checks.resumed_as_uninterrupted(fit, TRAIN, ROWS).holds  # dropout is drawn from (seed, step)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    assert not checks.resumed_as_uninterrupted(fit, TRAIN, ROWS).holds
