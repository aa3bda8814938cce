"""Trains in one of several processes: `torchrun --nproc-per-node 2 several.py FOLDER '[["RUN", {settings}], ...]'`.

The runs are done one after another, each in FOLDER/RUN. One that fails leaves its error there, and the others are done
all the same.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from burnish import parallel
from burnish.models.adapters import Lora, attach
from burnish.models.load import LanguageModel, load_model
from burnish.objectives.dpo import DPO
from burnish.objectives.kto import KTO
from burnish.objectives.sft import SFT
from burnish.training.labelled import RenderedAnswer, labelled_reference, train_labelled
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, pair_reference, train_preference
from burnish.training.step import RunOptions
from burnish.training.supervised import train_supervised
from burnish.types import Message
from training_parts import TEXTS, Killed, options

TRAINED, FAILED = "trained.safetensors", "error.txt"


def train(
    folder: Path, *, model: str, kind: str = "sft", dtype: str = "float32", shard: bool = False,
    die_at: int | None = None, quantize: bool = False,
) -> None:  # fmt: skip
    """Six steps of several micro-batches, so that two processes have some each. The leader keeps the trained weights,
    with `quantize` those of an adapter on four bits.

    Raises Killed after step `die_at`.
    """
    settings = Optimization(learning_rate=1e-2, batch_size=4, epochs=2, micro_tokens=64, shard=shard)
    lm = load_model(model, dtype=dtype, quantize=quantize)
    lm = trained(attach(lm, Lora(rank=4), 0) if quantize else lm, kind, settings, options(folder, die_at))
    if parallel.leads():
        learned = {name: value.detach().clone() for name, value in lm.model.named_parameters() if value.requires_grad}
        save_file(learned, folder / TRAINED)


def trained(lm: LanguageModel, kind: str, settings: Optimization, run: RunOptions) -> LanguageModel:
    """A model trained on twelve answers, good and bad."""
    prompts = [(Message("user", TEXTS[n % 6]),) for n in range(12)]
    good = [lm.chat.answer_ids(prompt, f"{TEXTS[(n * 5 + 1) % 6]} {n}") for n, prompt in enumerate(prompts)]
    bad = [lm.chat.answer_ids(prompt, f"no {n}") for n, prompt in enumerate(prompts)]
    if kind == "sft":
        train_supervised(lm, good, SFT(), settings, **run)
    elif kind == "dpo":
        pairs = [RenderedPair(*pair) for pair in zip(good, bad, strict=True)]
        reference = pair_reference(lm, pairs, run["folder"], settings, 0)
        lm = attach(lm, Lora(rank=4), 0)
        train_preference(lm, pairs, reference, DPO(), settings, **run)
    else:
        rows = [RenderedAnswer(row, number % 2 == 0) for number, row in enumerate(good)]
        reference = labelled_reference(lm, rows, KTO(), run["folder"], settings, 0)
        train_labelled(lm, rows, reference, KTO(), settings, **run)
    return lm


def main(folder: Path, runs: Sequence[tuple[str, dict[str, Any]]]) -> None:
    torch.set_num_threads(1)
    for name, asked in runs:
        try:
            train(folder / name, **asked)
        except Killed:
            continue
        except Exception:
            (folder / name / FAILED).write_text(traceback.format_exc())


if __name__ == "__main__":
    with parallel.together():
        main(Path(sys.argv[1]), json.loads(sys.argv[2]))
