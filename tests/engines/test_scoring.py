"""Scores over token trees against one plain forward pass for each option."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from burnish.engines.encoding import Asked
from burnish.engines.local import LocalEngine
from burnish.engines.scoring import packs
from burnish.models.load import LanguageModel, load_model

SHOTS = "the quick brown fox jumps over the lazy dog. " * 3
QUESTIONS = ["What is 17 plus 25?", "A b c", "jumps", "over the lazy", "the quick"]
OPTIONS = [[" A", " B", " C", " D"], [" fox", " lazy dog"], [" x"], [" quick", " brown fox"], [" a b", " a c"]]


@pytest.fixture(scope="module", params=tiny.MORE)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(tiny.tiny_model(request.param, tmp_path_factory.mktemp(request.param)), dtype="float32")


def plain(lm: LanguageModel, ids: list[int], tail: list[int]) -> tuple[float, bool]:
    """The sum of an option's log-probabilities and whether greedy decoding would say it, without cache or tree."""
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([ids + tail])).logits[0].float()
    values = logits.log_softmax(-1)[len(ids) - 1 : -1]
    return float(values[range(len(tail)), tail].sum()), values.argmax(-1).tolist() == tail


@pytest.mark.parametrize("budget", [1, 150, 1 << 14])
def test_shared_equals_apart(lm: LanguageModel, budget: int) -> None:
    engine = LocalEngine(lm, batch_tokens=budget)
    prompts = [SHOTS + question for question in QUESTIONS]
    asked = engine._encoder.asked(prompts, OPTIONS)
    found = engine.choices(prompts, OPTIONS)
    for (ids, tails), scored in zip(asked, found, strict=True):
        assert [one.tokens for one in scored] == [len(tail) for tail in tails]
        for tail, one in zip(tails, scored, strict=True):
            logprob, greedy = plain(lm, ids, tail)
            assert one.logprob == pytest.approx(logprob, abs=2e-5)
            assert one.greedy is greedy


def test_greedy_is_seen(lm: LanguageModel) -> None:
    ids = lm.tokenizer(SHOTS)["input_ids"]
    with torch.no_grad():
        likeliest = int(lm.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    ((yes, no),) = LocalEngine(lm).score([(ids, [[likeliest], [likeliest + 1 if likeliest < 300 else 5]])])
    assert yes.greedy and not no.greedy


def test_packs_keep_to_the_budget_and_count_what_is_shared_once() -> None:
    # Prompts of 6 tokens whose first 5 are alike, options of 3 tokens of which 2 are fed: 6 + 2 = 8, then 1 + 2 each.
    asked: list[Asked] = [([1, 2, 3, 4, 5, last], [[7, 8, 9]]) for last in (30, 10, 20)]
    assert list(packs(asked, 14)) == [[1, 2, 0]]
    assert list(packs(asked, 13)) == [[1, 2], [0]]
    assert list(packs(asked, 1)) == [[1], [2], [0]]
    assert list(packs([], 10)) == []
    assert list(packs(asked, 100, least=1)) == [[1, 2, 0]]  # four times the first prompt is 24


def test_a_model_without_a_chat_is_scored_on_plain_text(tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path)
    (folder / "chat_template.jinja").unlink()
    engine = LocalEngine(load_model(folder, dtype="float32"))
    assert engine.template_hash == ""
    assert len(engine.choices(["the quick"], [[" brown", " fox"]])[0]) == 2
