"""A reward model as a judge: preferences are its rewards' sigmoid, and what it cannot read is unscored."""

from __future__ import annotations

import math

import pytest
import torch

import tiny
from burnish.engines.reward import RewardEngine
from burnish.errors import EngineError
from burnish.judges.reward import RewardModel
from burnish.models.load import load_model
from burnish.types import Example, Message

ASKED = [Example("a", (Message("user", "What is 17 plus 25?"),)), Example("b", (Message("user", "A b c " * 100),))]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> RewardEngine:
    lm = load_model(tiny.tiny_model("llama", tmp_path_factory.mktemp("llama")), dtype="float32", gives="scores")
    with torch.no_grad():  # it starts without an opinion
        lm.model.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    return RewardEngine(lm)


def test_a_preference_is_the_sigmoid_of_the_difference(engine: RewardEngine) -> None:
    one, two = engine.rewards([(ASKED[0].prompt, text) for text in ("42.", "fox")])
    assert isinstance(one, float) and isinstance(two, float) and one != two
    (verdict,) = RewardModel().compare(engine, ASKED[:1], ["42."], ["fox"])
    assert verdict.preference == pytest.approx(1 / (1 + math.exp(two - one)))
    assert verdict.orders == (verdict.preference, verdict.preference)
    ((first, second),) = RewardModel().score(engine, ASKED[:1], [["42.", "fox"]])
    assert first.value == pytest.approx(1 / (1 + math.exp(-one))) and second.answer == f"{two:.3f}"


def test_what_is_too_long_is_unscored_and_the_rest_is_not(engine: RewardEngine) -> None:
    verdicts = RewardModel().compare(engine, ASKED[::-1], ["42.", "42."], ["fox", "fox"])
    assert verdicts[0].preference is None and verdicts[1].preference is not None
    assert "too long for the reward model" in str(verdicts[0].error) and "the context is 256" in str(verdicts[0].error)
    scores = RewardModel().score(engine, ASKED, [["42."], ["42."]])
    assert scores[0][0].value is not None
    assert scores[1][0].value is None and "the context is 256" in str(scores[1][0].error)


def test_a_model_that_writes_is_no_reward_model() -> None:
    class Writes:
        name = "writes"

    with pytest.raises(EngineError, match="writes gives text and no scores"):
        RewardModel().compare(Writes(), ASKED, ["x"], ["y"])  # type: ignore[arg-type]
