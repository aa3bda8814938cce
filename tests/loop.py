"""The whole loop in miniature: a recipe with every step on a tiny random model and a few rows of a user's own file.

Random models answer nothing right, so answers are graded by a grader of the user's own that half of them pass.
"""

from __future__ import annotations

import json
from pathlib import Path

import tiny

GRADER = '''
"""A grader that knows nothing: answers of an even number of characters are right."""

from burnish.config import Config
from burnish.types import Example, Score


class Even(Config):
    """1.0 for an even number of characters."""

    def grade(self, example: Example, text: str) -> Score:
        return Score(float(len(text) % 2 == 0), str(len(text)))
'''

RECIPE = """
name: loop
seed: 0
base: {base}
suites:
  dev: {{tasks: [{{jsonl: {{path: {folder}/items.jsonl, grader: {{use: "{folder}/grader.py:Even"}}}}}}]}}
  hard: {{tasks: [{{jsonl: {{path: {folder}/choices.jsonl, choices: options}}}}], looks: 20}}
steps:
  chats: {{use: ingest, from: {folder}/chats.jsonl}}
  clean: {{use: filter, data: $chats, with: [exact, length, minhash, {{decontaminate: {{against: [dev, hard]}}}}]}}
  sft:   {{use: sft, data: $clean, train: {{learning_rate: 1e-3, batch_size: 4, max_steps: 3}}}}
  lora:  {{use: sft, data: $clean, lora: {{rank: 2}}, train: {{learning_rate: 1e-3, batch_size: 4, max_steps: 3}}}}
  pairs: {{use: preferences, prompts: $clean, models: [$sft, $lora], n: 3, max_tokens: 12, grader: {grader}}}
  dpo:   {{use: preference, model: $sft, data: $pairs, train: {{learning_rate: 1e-4, batch_size: 4, max_steps: 3}}}}
  mixed: {{use: merge, models: [$dpo, $lora], method: {{slerp: {{t: 0.5}}}}}}
  scores: {{use: evaluate, models: [base, $sft, $lora, $dpo, $mixed], suites: [dev, hard], max_tokens: 12}}
  voting: {{use: test_time, model: $dpo, n: [1, 2, 4], max_tokens: 12}}
"""

COLOURS = ["red", "green", "blue", "grey", "brown", "pink", "white", "black", "gold", "silver", "beige", "violet"]

TEST_QUESTION = "What is the colour of a ripe tomato in summer?"


def talk(question: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def rows(path: Path, *found: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


def write_loop(folder: Path, kind: str = "llama") -> Path:
    """Write the model, the data and the recipe; returns the recipe's path."""
    base = tiny.tiny_model(kind, folder / "model")
    (folder / "grader.py").write_text(GRADER)
    chats = [talk(f"Say {one} and {other}", f"{other} {one}") for one in COLOURS for other in COLOURS[:2]]
    rows(folder / "chats.jsonl", *chats, talk(TEST_QUESTION, "red"), chats[0], {"messages": []})
    rows(folder / "items.jsonl", {"prompt": TEST_QUESTION, "answer": "red"},
         {"prompt": "Name a dark colour", "answer": "black"},
         {"prompt": "And a light one", "answer": "white"})  # fmt: skip
    rows(folder / "choices.jsonl", {"prompt": "Snow is", "answer": "white", "options": ["white", "black"]},
         {"prompt": "Coal is", "answer": "black", "options": ["white", "black"]})  # fmt: skip
    recipe = folder / "loop.yaml"
    grader = f'{{use: "{folder}/grader.py:Even"}}'
    recipe.write_text(RECIPE.format(base=base, folder=folder, grader=grader))
    return recipe
