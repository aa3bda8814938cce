"""Text to ids: one tokenization for many models, borders that tokens reach across, texts that begin with nothing."""

from __future__ import annotations

import pytest

import tiny
from burnish.engines import encoding
from burnish.engines.encoding import Encoder
from burnish.models.load import LanguageModel, load_model
from burnish.types import Message


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(tiny.tiny_model("llama", tmp_path_factory.mktemp("llama")), dtype="float32")


def test_a_second_model_with_the_same_tokenizer_encodes_nothing(
    lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load_model(tiny.tiny_model("llama", tmp_path_factory.mktemp("other"), seed=1), dtype="float32")
    prompts, options = ["the quick", "the lazy"], [[" brown", " dog"], [" dog"]]
    first = Encoder(lm).asked(prompts, options)

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(Encoder, "_texts", refuse)
    assert Encoder(other).asked(list(prompts), options) == first
    with pytest.raises(AssertionError, match="encoded again"):
        Encoder(other).asked(["the slow", "the lazy"], options)


def test_another_template_is_another_tokenizer(lm: LanguageModel) -> None:
    before = Encoder(lm).hash
    text = lm.tokenizer.chat_template
    lm.tokenizer.chat_template = text + " "
    try:
        assert Encoder(lm).hash != before
    finally:
        lm.tokenizer.chat_template = text


def test_prompts_and_options_together_are_the_whole_text(lm: LanguageModel) -> None:
    prompts = ["What is 17 plus", "the qui", ""]
    options = [[" 25", "es 25"], ["ck brown", "te"], ["fox", "dog"]]
    for prompt, group, (ids, tails) in zip(prompts, options, Encoder(lm).asked(prompts, options), strict=True):
        assert ids and all(tails)
        for option, tail in zip(group, tails, strict=True):
            whole = lm.tokenizer(prompt + option)["input_ids"]
            start = [] if whole[0] == ids[0] else ids
            assert start + whole == ids + tail


def test_many_prompts_are_encoded_in_parts(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, options = [f"the quick {number}" for number in range(7)], [[" fox", " dog"]] * 7
    whole = Encoder(lm).asked(prompts, options)
    encoding._KEPT.clear()
    monkeypatch.setattr(encoding, "PART", 2)
    assert Encoder(lm).asked(prompts, options) == whole


def test_options_of_a_conversation_begin_the_turn(lm: LanguageModel) -> None:
    turns = (Message("user", "Which?"),)
    ((ids, tails),) = Encoder(lm).asked([turns], [["A", "B"]])
    assert ids == lm.chat.ids(turns, answer=True)
    assert tails == [lm.tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in "AB"]
