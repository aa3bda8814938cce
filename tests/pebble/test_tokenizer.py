"""Pebble's tokenizer: lossless, single digits, a chat template whose prefixes agree."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from burnish.pebble import load_path
from burnish.pebble.tokenizer import SPECIAL, VOCABULARY
from burnish.pebble.world import chats, documents

TEXTS = [
    "",
    "plain words",
    "  two  spaces ",
    "\n\n tabs\tand\r\nlines\n",
    "é ñ ß 漢字 🙂 \u200d\u0301",
    "a=1;\x00\x7f",
    "12,345.60 €",
    "def f(x):\n    return x ** 2\n",
    "ﬁ ½ ² ٣",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(load_path())


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip_is_lossless(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_round_trip_of_the_world(tokenizer: Any) -> None:
    special = set(tokenizer.convert_tokens_to_ids(SPECIAL))
    for page in documents(100, seed=11):
        ids = tokenizer(page, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == page
        assert not special & set(ids)


def test_size_and_special_tokens(tokenizer: Any) -> None:
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.convert_ids_to_tokens(list(range(len(SPECIAL)))) == SPECIAL
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|bos|>", "<|end|>", "<|pad|>")
    # A completion begins as every document does.
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id


def test_digits_and_line_ends_are_single(tokenizer: Any) -> None:
    vocabulary = [tokenizer.decode([index]) for index in range(len(SPECIAL), VOCABULARY)]
    assert not [token for token in vocabulary if len(token) > 1 and any(letter.isdigit() for letter in token)]
    assert not [token for token in vocabulary if "\n" in token and token != "\n"]
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]


def test_template_renders_turns_as_documented(tokenizer: Any) -> None:
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
    ]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|bos|><|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n"
    )
    with pytest.raises(Exception, match="tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def _ids(tokenizer: Any, turns: list[dict[str, str]], prompt: bool) -> list[int]:
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def test_every_prefix_of_a_conversation_is_a_prefix_of_its_tokens(tokenizer: Any) -> None:
    odd = [
        {"role": "user", "content": "\n\n 12 "},
        {"role": "assistant", "content": " \n7\n"},
        {"role": "user", "content": ""},
    ]
    conversations = [odd] + [
        [{"role": message.role, "content": message.content} for message in item.messages]
        for item in chats("dialogue", "train", 20, seed=0)
    ]
    for turns in conversations:
        whole = _ids(tokenizer, turns, False)
        for length in range(1, len(turns)):
            prompt = turns[length]["role"] == "assistant"
            prefix = _ids(tokenizer, turns[:length], prompt)
            assert whole[: len(prefix)] == prefix
