"""TRL's losses on random models, for `tests/objectives/test_trl.py`: prints JSON.

.peers/trl/bin/python benchmarks/peers/trl_golden.py > tests/objectives/trl.json
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")

import torch
import trl
from accelerate import Accelerator
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.gkd import GKDTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"]
CASES: list[dict[str, Any]] = [
    *({"loss_type": [name]} for name in ("sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero",
                                         "apo_down", "discopop", "sigmoid_norm", "aot", "aot_unpaired")),
    *({"loss_type": [name], "label_smoothing": 0.1} for name in ("robust", "exo_pair", "aot")),
    *({"loss_type": ["sigmoid"], "f_divergence_type": name} for name in ("forward_kl", "js_divergence")),
    {"loss_type": ["sigmoid"], "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5},
    {"loss_type": ["sigmoid"], "ld_alpha": 0.3},
    {"loss_type": ["sigmoid", "bco_pair"], "loss_weights": [0.8, 0.2]},
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "pairs": 1},
]  # fmt: skip
"""Settings, and how many of the pairs are in the batch. In a batch of one pair a mean over its tokens, which is TRL's
likelihood of the chosen answers, is a mean over its pairs."""
FREE: list[tuple[str, dict[str, Any]]] = [
    ("orpo", {"beta": 0.3}), ("cpo", {"cpo_alpha": 0.0}), ("cpo", {"cpo_alpha": 0.0, "label_smoothing": 0.1}),
    ("cpo", {"cpo_alpha": 0.7, "pairs": 1}), ("simpo", {"beta": 2.0, "simpo_gamma": 0.5, "cpo_alpha": 0.0}),
    ("simpo", {"beta": 2.0, "simpo_gamma": 0.5, "cpo_alpha": 0.7, "pairs": 1}),
]  # fmt: skip
ROWS = [
    {"prompt": "a b c", "chosen": " d e f g h i", "rejected": " j k"},
    {"prompt": "p o", "chosen": " n m", "rejected": " l k j i h"},
    {"prompt": "c d e", "chosen": " a a b", "rejected": " b a a"},
]


def model(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    made = LlamaForCausalLM(LlamaConfig(vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, bos_token_id=1,
                                        eos_token_id=2))  # fmt: skip
    for parameter in made.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made.float()


def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: number for number, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *WORDS])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def values(of: Any, inputs: dict[str, torch.Tensor]) -> list[list[float]]:
    """Log-probability of every answer token, answer after answer."""
    ids = inputs["input_ids"]
    mask = inputs["completion_mask"].bool() if "completion_mask" in inputs else inputs["labels"] != -100
    with torch.no_grad():
        logps = of(input_ids=ids, attention_mask=inputs["attention_mask"]).logits.log_softmax(-1)
    token = logps[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    return [row[keep].tolist() for row, keep in zip(token, mask[:, 1:], strict=True)]


LABELLED = [
    {"prompt": "a b c", "completion": " d e f g h i", "label": True},
    {"prompt": "p o", "completion": " n m", "label": False},
    {"prompt": "c d e", "completion": " a a b", "label": True},
    {"prompt": "k l", "completion": " b c d e", "label": False},
]
COMMON: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False}


def labelled() -> dict[str, Any]:
    """KTO's losses, and the summed log-probabilities of answers and of answers that belong to other prompts."""
    losses, found = [], {}
    for case in ({"loss_type": "kto"}, {"loss_type": "kto", "undesirable_weight": 0.7},
                 {"loss_type": "apo_zero_unpaired"}):  # fmt: skip
        policy, reference = model(0), model(1)
        settings = KTOConfig(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=4, beta=0.1, **COMMON, **case)
        trainer = KTOTrainer(policy, reference, args=settings, train_dataset=Dataset.from_list(LABELLED),
                             processing_class=tokenizer())  # fmt: skip
        inputs = next(iter(trainer.get_train_dataloader()))
        losses.append([case, float(trainer.compute_loss(policy, inputs))])
        for side, of in (("", "answers"), ("KL_", "foreign")) if case["loss_type"] == "kto" else ():
            part = {key: inputs[side + key] for key in ("input_ids", "attention_mask", "completion_mask")}
            found[of] = [[sum(row) for row in values(each, part)] for each in (policy, reference)]
        found["labels"] = inputs["label"].tolist() if hasattr(inputs["label"], "tolist") else inputs["label"]
    return {**found, "losses": losses}


def rewards() -> dict[str, Any]:
    """Bradley-Terry losses of given scores."""
    scores, margins = torch.tensor([1.5, -0.2, 0.3, 0.1, 0.4, 2.0]), torch.tensor([0.5, 0.0, 1.0])

    class Fixed(torch.nn.Module):
        def forward(self, **_: Any) -> Any:
            return type("Out", (), {"logits": scores[:, None]})()

    losses = []
    for centre in (None, 0.01):
        for inputs in ({}, {"margin": margins}):
            trainer = RewardTrainer.__new__(RewardTrainer)
            trainer.args = RewardConfig(output_dir=tempfile.mkdtemp(), center_rewards_coefficient=centre, **COMMON)
            trainer.model, trainer._tp_size, trainer._total_train_tokens = Fixed().eval(), 1, 0
            trainer._metrics, trainer.accelerator = {"eval": defaultdict(list)}, Accelerator(cpu=True)
            loss = trainer.compute_loss(trainer.model, {**inputs, "attention_mask": torch.ones(6, 2)})
            losses.append([{"centre": centre or 0.0, "margins": bool(inputs)}, float(loss)])
    return {"scores": scores.tolist(), "margins": margins.tolist(), "losses": losses}


def distillation() -> dict[str, Any]:
    """Divergences of given logits: TRL's beta is 0 for forward KL, 1 for reverse KL."""
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 5, 7) * 2, torch.randn(1, 5, 7) * 2
    losses = [
        [case, float(GKDTrainer.generalized_jsd_loss(student, teacher, reduction="sum", **case))]
        for case in ({"beta": 0.0}, {"beta": 1.0}, {"beta": 0.3}, {"beta": 0.5, "temperature": 2.0})
    ]
    return {"student": student[0].tolist(), "teacher": teacher[0].tolist(), "losses": losses}


def supervised() -> dict[str, Any]:
    """Losses of conversations, and the log-probabilities of their answers' tokens."""
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in ROWS]
    losses, policy = [], model(0)
    for kind in ("nll", "dft"):
        settings = SFTConfig(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=3, loss_type=kind, **COMMON)
        trainer = SFTTrainer(policy, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer())
        inputs = next(iter(trainer.get_train_dataloader()))
        answers = values(policy, inputs)  # before the trainer adds to its inputs; the same for both
        losses.append([{"dynamic": kind == "dft"}, float(trainer.compute_loss(policy, inputs))])
    return {"answers": answers, "losses": losses}


def split(case: dict[str, Any]) -> tuple[Dataset, dict[str, Any]]:
    """The pairs of a case, and TRL's settings."""
    return Dataset.from_list(ROWS[: case.get("pairs")]), {name: case[name] for name in case if name != "pairs"}


def preferences() -> dict[str, Any]:
    """Losses of pairs beside a reference, and the log-probabilities of both models."""
    losses = []
    for case in CASES:
        policy, reference = model(0), model(1)
        pairs, asked = split(case)
        settings = DPOConfig(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=3, beta=0.1, **COMMON, **asked)
        trainer = DPOTrainer(policy, reference, args=settings, train_dataset=pairs, processing_class=tokenizer())
        inputs = next(iter(trainer.get_train_dataloader()))
        losses.append([case, float(trainer.compute_loss(policy, inputs))])
        if "pairs" not in case:  # the same in every case
            found = {"policy": values(policy, inputs), "reference": values(reference, inputs)}
    return {**found, "losses": losses}


def reference_free() -> dict[str, Any]:
    """Losses of pairs alone, and the log-probabilities of their answers. Of ORPO without the likelihood term, which in
    TRL is of the prompts too."""
    trainers = {"orpo": (ORPOTrainer, ORPOConfig), "cpo": (CPOTrainer, CPOConfig), "simpo": (CPOTrainer, CPOConfig)}
    losses = []
    for name, case in FREE:
        policy, (make, configure), (pairs, asked) = model(0), trainers[name], split(case)
        asked |= {"loss_type": "simpo"} if name == "simpo" else {}
        settings = configure(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=3, **COMMON, **asked)
        trainer = make(policy, settings, train_dataset=pairs, processing_class=tokenizer())
        inputs = next(iter(trainer.get_train_dataloader()))
        loss, metrics = trainer.get_batch_loss_metrics(policy, inputs)
        losses.append([name, case, float(loss) - (float(metrics["nll_loss"]) if name == "orpo" else 0.0)])
        if "pairs" not in case:  # the same in every case
            both = trainer.concatenated_inputs(inputs)
            found = values(policy, {key.removeprefix("concatenated_"): value for key, value in both.items()})
    return {"policy": found, "losses": losses}


def main() -> None:
    print(json.dumps({"trl": trl.__version__, "beta": 0.1, **preferences(), "free": reference_free(),
                      "supervised": supervised(), "labelled": labelled(), "rewards": rewards(),
                      "distillation": distillation()}))  # fmt: skip


if __name__ == "__main__":
    main()
