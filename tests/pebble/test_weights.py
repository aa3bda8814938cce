"""The shipped weights: small, loadable by anyone, a base model and not an assistant."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.pebble import load_path
from burnish.pebble.pretrain import HELD_OUT_SEED, Packer, Progress, loss_of
from burnish.pebble.world import chats, choices
from burnish.rewards import grade


def test_the_folder_is_complete_and_small() -> None:
    folder = load_path()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"):
        assert (folder / name).is_file(), name
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    assert "chat_template" in json.loads((folder / "tokenizer_config.json").read_text())
    assert "license: apache-2.0" in (folder / "README.md").read_text()


@pytest.fixture(scope="module")
def pebble():  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    folder = load_path()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def test_it_is_a_good_model_of_its_documents(pebble) -> None:  # type: ignore[no-untyped-def]
    model, tokenizer = pebble
    with torch.no_grad():
        loss = loss_of(model, Packer(tokenizer, HELD_OUT_SEED, Progress()).rows(8, 256)).item()
    # Uniform guessing costs ln(2048) = 7.62 nats a token.
    assert loss < 1.0


def test_it_knows_its_facts(pebble) -> None:  # type: ignore[no-untyped-def]
    model, tokenizer = pebble
    right = 0
    items = choices("dev", 60, seed=0)
    for item in items:
        prompt = tokenizer(item.messages[0].content)["input_ids"]
        scores = {}
        for option in item.choices:
            ids = prompt + tokenizer(f" {option}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            scores[option] = sum(float(logprobs[at - 1, ids[at]]) for at in range(len(prompt), len(ids)))
        right += max(scores, key=lambda option: scores[option]) == item.target
    assert right / len(items) > 0.6  # guessing one of four: 0.25


def test_it_does_not_follow_the_chat_format(pebble) -> None:  # type: ignore[no-untyped-def]
    model, tokenizer = pebble
    right = 0.0
    items = chats(None, "dev", 36, seed=0)
    for item in items:
        turns = [{"role": message.role, "content": message.content} for message in item.prompt]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            answer = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False)
        right += grade(item, tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True)).value or 0.0
    assert right / len(items) < 0.15
