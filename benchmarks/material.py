"""What our side and a peer's side of a benchmark both read: a random model, its tokenizer, and the same rows in order.

Runs in our environment; writes plain folders and JSON lines, so that a peer needs nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{% if not loop.first %}\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}"
)
"""Ends with the stop token. TRL also learns what a template writes after it; here that is nothing, on both sides."""
SHAPES: dict[str, dict[str, Any]] = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49_152, "rope_theta": 100_000.0},
    "360m": {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
             "num_key_value_heads": 5, "vocab_size": 49_152, "rope_theta": 100_000.0},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128_256, "rope_theta": 500_000.0},
    "10m": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8, "num_attention_heads": 8,
            "num_key_value_heads": 4, "vocab_size": 16_384, "rope_theta": 10_000.0},
    "experts": {"model_type": "qwen3_moe", "hidden_size": 512, "intermediate_size": 1024, "moe_intermediate_size": 256,
                "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
                "num_experts": 64, "num_experts_per_tok": 4, "vocab_size": 16_384, "rope_theta": 10_000.0},
}  # fmt: skip
"""The shapes of SmolLM2-135M, SmolLM2-360M and Llama-3.2-1B, a small one, and one of 220 M parameters whose layers have
64 experts."""
LONGEST = 1024


def pairs(path: Path | None) -> Iterator[dict[str, str]]:
    """Prompts with a chosen and a rejected answer: AlpacaEval's judged outputs, or Pebble's world without them."""
    if path is None:
        from burnish.pebble.world import chats

        for row in chats(None, "train", 2000, seed=0):
            asked = row.messages[-2].content
            yield {"prompt": asked, "chosen": row.messages[-1].content, "rejected": row.messages[-1].content[::-1]}
        return
    import pyarrow.parquet as parquet

    for row in parquet.read_table(path).to_pylist():
        answers = [row["output"], row["baseline_output"]]
        if row["preference"] is None or not all(answers):
            continue
        better = row["preference"] > 1.5
        yield {"prompt": row["instruction"], "chosen": answers[not better], "rejected": answers[better]}


def make(folder: Path, shape: str, path: Path | None, count: int) -> None:
    """Write model/, and rows.jsonl with `count` pairs of at most LONGEST tokens, into `folder`."""
    made = json.dumps([shape, str(path), count])
    if not (folder / "made.json").exists() or (folder / "made.json").read_text(encoding="utf-8") != made:
        _make_rows(folder, shape, path, count)
        (folder / "made.json").write_text(made, encoding="utf-8")
    if not (folder / "model" / "model.safetensors").exists():  # weights are not carried to another machine
        torch.manual_seed(0)
        settings = {"model_type": "llama", **SHAPES[shape]}
        settings |= {"max_position_embeddings": 2048, "tie_word_embeddings": True}
        config = AutoConfig.for_model(**settings, pad_token_id=0, bos_token_id=1, eos_token_id=3)
        on_gpu = torch.cuda.is_available()
        with torch.device("cuda" if on_gpu else "cpu"):
            model = AutoModelForCausalLM.from_config(config)
        (model.to(torch.bfloat16) if on_gpu else model).save_pretrained(folder / "model")


def _make_rows(folder: Path, shape: str, path: Path | None, count: int) -> None:
    rows = list(pairs(path))
    tokenizer = _tokenizer(rows, SHAPES[shape]["vocab_size"])
    kept = []
    step = max(1, len(rows) // (count * 4))  # from all over the file, so that many models' answers are among them
    for row in rows[::step]:
        sides = [_length(tokenizer, row["prompt"], row[side]) for side in ("chosen", "rejected")]
        if max(sides) <= LONGEST and len(kept) < count:
            kept.append(row)
    if len(kept) < count:
        raise SystemExit(f"only {len(kept)} of {count} rows of at most {LONGEST} tokens were found")
    tokenizer.save_pretrained(folder / "model")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")


def _tokenizer(rows: list[dict[str, str]], size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<|im_start|>", "<|im_end|>"]  # 0 to 3
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator((text for row in rows for text in row.values()), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<|im_end|>",
                                   pad_token="<pad>", additional_special_tokens=["<|im_start|>"])  # fmt: skip
    fast.chat_template = CHATML
    return fast


def _length(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> int:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return len(tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"])
