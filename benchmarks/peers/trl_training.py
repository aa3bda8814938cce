"""TRL's side of `training.py`, in TRL's own environment: prints one JSON line. Knows nothing of Burnish."""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
    HF_DATASETS_CACHE=tempfile.mkdtemp(),  # a reference kept from an earlier round would cost nothing
)

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """Seconds and losses of every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.reference = 0.0
        self.tokens: list[Any] = []

    def count_tokens(self, trainer: Any) -> None:
        """Let it count the tokens of every step that are not padding."""
        real = trainer.training_step

        def counted(model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
            mask = inputs.get("attention_mask")
            self.tokens.append(inputs["input_ids"].numel() if mask is None else mask.sum())
            return real(model, inputs, *rest, **named)

        trainer.training_step = counted

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._began)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def time_reference(clock: Clock) -> None:
    """Let the clock count what TRL spends on a precomputed reference while it makes its trainer."""
    real = DPOTrainer._precompute_ref_logps

    def timed(self: Any, *arguments: Any, **settings: Any) -> Any:
        began = time.perf_counter()
        found = real(self, *arguments, **settings)
        clock.reference += time.perf_counter() - began
        return found

    DPOTrainer._precompute_ref_logps = timed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("method", choices=["sft", "dpo"])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--padding-free", action="store_true")
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--liger", action="store_true", help="its fused kernels, on a GPU")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--full", action="store_true", help="DPO of all weights instead of a LoRA")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precompute", action="store_true")
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.work / "model", dtype=getattr(torch, options.dtype),
                                                 attn_implementation=options.attention)  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(options.work / "model")
    rows = [json.loads(line) for line in (options.work / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = rows[: options.steps * options.batch]
    common: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": options.batch, "max_steps": options.steps,
        "learning_rate": options.rate, "lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0,
        "adam_beta2": 0.999, "max_length": 1024, "gradient_checkpointing": False, "bf16": False,
        "use_cpu": not torch.cuda.is_available(), "use_liger_kernel": options.liger,
        "logging_steps": 1, "save_strategy": "no", "report_to": "none", "train_sampling_strategy": "sequential",
        "torch_compile": options.compile, "dataloader_pin_memory": False, "seed": 0,
    }  # fmt: skip

    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    clock = Clock()
    if options.method == "sft":
        data = [{"prompt": said("user", r["prompt"]), "completion": said("assistant", r["chosen"])} for r in rows]
        extra = {"padding_free": True, "max_length": None} if options.padding_free else {"packing": options.packing}
        trainer: Any = SFTTrainer(model, SFTConfig(**{**common, **extra}), train_dataset=Dataset.from_list(data),
                                  processing_class=tokenizer, callbacks=[clock])  # fmt: skip
    else:
        data = [{"prompt": said("user", r["prompt"]), "chosen": said("assistant", r["chosen"]),
                 "rejected": said("assistant", r["rejected"])} for r in rows]  # fmt: skip
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        settings = DPOConfig(**common, beta=0.1, precompute_ref_log_probs=options.precompute)
        time_reference(clock)
        trainer = DPOTrainer(model, args=settings, train_dataset=Dataset.from_list(data), processing_class=tokenizer,
                             peft_config=None if options.full else lora, callbacks=[clock])  # fmt: skip
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, options.dtype))  # adapters too, as on our side
    clock.count_tokens(trainer)
    trainer.train()
    timed = clock.seconds[options.warm :]
    seconds = sum(timed) + clock.reference * len(timed) / len(clock.seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    print(json.dumps({
        "rows_per_second": options.batch * len(timed) / seconds,
        "tokens_per_second": sum(map(int, clock.tokens[options.warm :])) / seconds,
        "peak_mib": peak / 2**20,
        "losses": clock.losses,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
