"""Real models of several families, two layers each, made on the fly with random weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    Glm4MoeConfig,
    GptOssConfig,
    GraniteMoeConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    NemotronHConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3MoeConfig,
)

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip

CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "qwen3": (Qwen3Config, {"head_dim": 8}),
    "gemma3": (Gemma3TextConfig, {"head_dim": 8, "sliding_window": 16, "layer_types": ["sliding_attention",
                                  "full_attention"], "final_logit_softcapping": 30.0}),
    "mistral": (MistralConfig, {"sliding_window": 16, "head_dim": 8}),
    "lfm2": (Lfm2Config, {"layer_types": ["conv", "full_attention"], "block_ff_dim": 64}),
}  # fmt: skip
KINDS = list(CONFIGS)
MIXTURES: dict[str, tuple[type, dict[str, Any]]] = {
    "qwen3_moe": (Qwen3MoeConfig, {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
                                   "head_dim": 8}),
    "gpt_oss": (GptOssConfig, {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "rope_parameters": {
                               "rope_type": "default", "rope_theta": 10000.0}}),
    "nemotron_h": (NemotronHConfig, {"layers_block_type": ["moe", "attention"], "n_routed_experts": 4,
                                     "num_experts_per_tok": 2, "moe_intermediate_size": 48, "n_group": 1,
                                     "topk_group": 1, "mlp_hidden_act": "silu"}),
}  # fmt: skip
"""Families that hold their experts as one tensor: gated; transposed and with biases; without gates."""
OTHERS: dict[str, tuple[type, dict[str, Any]]] = {
    "granitemoe": (GraniteMoeConfig, {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "glm4_moe": (Glm4MoeConfig, {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
                                 "head_dim": 8, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}),
}  # fmt: skip
"""Whose files hold experts as one tensor of another name; with a dense layer and shared experts."""
CONFIGS |= MIXTURES | OTHERS
MORE = [*KINDS, "qwen3_moe", "gpt_oss"]
"""With experts, whose adapters peft puts on by itself and not; and with attention sinks."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like Qwen3's: an earlier answer loses its thinking once a later turn follows.
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and not loop.last %}{{ message['content'].split('</think>')[-1] }}"
    "{% else %}{{ message['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like Gemma's: a beginning-of-text token, and the assistant is called model.
GEMMA = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{{ message['content'] }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Like Llama 3's, with a default system prompt.
SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "llama": SYSTEM,
    "qwen3": THINKING,
    "gemma3": GEMMA,
    "mistral": CHATML,
    "lfm2": CHATML,
    **dict.fromkeys([*MIXTURES, *OTHERS], CHATML),
}
ENDS = {"gemma3": "<end_of_turn>"}

CORPUS = ["the quick brown fox jumps over the lazy dog", "What is 17 plus 25? The answer is 42.", "A b c d e f g"] * 4


@cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(kind: str = "llama") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 320 tokens with the chat template of a family's style."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()), bos_token="<bos>", eos_token=ENDS.get(kind, "<|im_end|>"),
        pad_token="<pad>", additional_special_tokens=["<|im_start|>", "<start_of_turn>"],
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATES[kind]
    return tokenizer


def tiny_model(kind: str, folder: Path, seed: int = 0, **sizes: Any) -> Path:
    """Build a random model with its tokenizer and save both; returns the folder."""
    tokenizer = tiny_tokenizer(kind)
    make, extra = CONFIGS[kind]
    settings = {**SIZES, **extra, **sizes, "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1,
                "eos_token_id": tokenizer.eos_token_id}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(make(**settings))
        for parameter in model.parameters():
            # Larger than the usual start, so that attention and positions matter to the output.
            torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    model.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
