"""Trains as one of several processes: `torchrun --nproc-per-node 2 several.py MODEL OUT '{"settings": ...}'`.

The leader writes the trained weights beside metrics.jsonl. With `die_at` every process stops after that step, as if it
had been killed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from burnish import parallel
from burnish.models.adapters import Lora, attach
from burnish.models.load import load_model
from burnish.objectives.dpo import DPO
from burnish.objectives.kto import KTO
from burnish.objectives.sft import SFT
from burnish.training.labelled import RenderedAnswer, labelled_reference, train_labelled
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, pair_reference, train_preference
from burnish.training.supervised import train_supervised
from burnish.types import Message
from training_parts import TEXTS


def main(model: str, out: str, asked: dict[str, object]) -> None:
    torch.set_num_threads(1)
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    lm = load_model(model, dtype=str(asked.get("dtype", "float32")))
    settings = Optimization(**{"learning_rate": 1e-2, "batch_size": 4, "epochs": 2, **asked.get("train", {})})  # type: ignore[dict-item]
    prompts = [(Message("user", TEXTS[n % 6]),) for n in range(12)]
    good = [lm.chat.answer_ids(prompt, f"{TEXTS[(n * 5 + 1) % 6]} {n}") for n, prompt in enumerate(prompts)]
    bad = [lm.chat.answer_ids(prompt, f"no {n}") for n, prompt in enumerate(prompts)]

    def after(step: int, row: dict[str, float]) -> None:
        if step == asked.get("die_at"):
            os._exit(9)

    options = {"seed": 0, "folder": folder, "checkpoint_every_s": 0.0, "after": after}
    if asked["kind"] == "sft":
        train_supervised(lm, good, SFT(), settings, **options)  # type: ignore[arg-type]
    elif asked["kind"] == "dpo":
        pairs = [RenderedPair(*pair) for pair in zip(good, bad, strict=True)]
        reference = pair_reference(lm, pairs, folder, settings)
        lm = attach(lm, Lora(rank=4), 0)
        train_preference(lm, pairs, reference, DPO(), settings, **options)  # type: ignore[arg-type]
    else:
        rows = [RenderedAnswer(row, number % 2 == 0) for number, row in enumerate(good)]
        reference = labelled_reference(lm, rows, KTO(), folder, settings)
        train_labelled(lm, rows, reference, KTO(), settings, **options)  # type: ignore[arg-type]
    if parallel.leads():
        trained = {
            name: weight.detach().clone() for name, weight in lm.model.named_parameters() if weight.requires_grad
        }
        save_file(trained, folder / "trained.safetensors")


if __name__ == "__main__":
    with parallel.together():
        main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
