"""Our side of `training.py`, in a process of its own: prints one JSON line."""

from __future__ import annotations

import argparse
import atexit
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path

import torch

from burnish import hardware
from burnish.models.adapters import Lora, attach
from burnish.models.load import load_model
from burnish.objectives.dpo import DPO
from burnish.objectives.sft import SFT
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, pair_reference, train_preference
from burnish.training.state import METRICS
from burnish.training.supervised import train_supervised
from burnish.types import Message


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("method", choices=["sft", "dpo"])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--full", action="store_true", help="DPO of all weights instead of a LoRA")
    parser.add_argument("--lora", type=int, help="rank of the adapter: none for SFT and 16 for DPO when left out")
    parser.add_argument("--quantize", action="store_true", help="the adapter's base in four bits")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--micro", type=int, default=None)
    options = parser.parse_args()
    rows = [json.loads(line) for line in (options.work / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = rows[: options.steps * options.batch]
    lm = load_model(options.work / "model", dtype=options.dtype, quantize=options.quantize)
    rank = options.lora or (16 if options.method == "dpo" and not options.full else 0)
    lm = attach(lm, Lora(rank=rank, alpha=2 * rank, quantize=options.quantize), 0) if rank else lm
    train = Optimization(
        learning_rate=options.rate, schedule="constant", warmup=0.0, batch_size=options.batch, betas=(0.9, 0.999),
        shuffle=False, compile=options.compile, micro_tokens=options.micro, optimizer=options.optimizer,
        checkpointing=options.checkpointing,
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # a checkpoint of 1.6 GB
    reference_seconds = 0.0
    if options.method == "sft":
        asked = [(Message("user", row["prompt"]), Message("assistant", row["chosen"])) for row in rows]
        rendered = [lm.chat.render(turns) for turns in asked]
        train_supervised(lm, rendered, SFT(), train, seed=0, folder=folder)
    else:
        prompts = [(Message("user", row["prompt"]),) for row in rows]
        both = [
            RenderedPair(lm.chat.answer_ids(asked, row["chosen"]), lm.chat.answer_ids(asked, row["rejected"]))
            for asked, row in zip(prompts, rows, strict=True)
        ]
        if torch.cuda.is_available():  # attention is compiled when it is first used
            with tempfile.TemporaryDirectory() as first:
                pair_reference(lm, both[: options.batch], Path(first), train, 0)
        began = time.perf_counter()
        reference = pair_reference(lm, both, folder, train, 0)
        reference_seconds = time.perf_counter() - began
        train_preference(lm, both, reference, DPO(beta=0.1), train, seed=0, folder=folder)
    steps = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    timed = steps[options.warm :]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if torch.cuda.is_available():
        peak = hardware.peak_memory_mib()
    with tempfile.TemporaryDirectory() as saved:
        lm.save(Path(saved))
        disk = sum(path.stat().st_size for path in Path(saved).glob("*.safetensors"))
    seconds = sum(step["seconds"] for step in timed) + reference_seconds * len(timed) / len(steps)
    print(json.dumps({
        "rows_per_second": options.batch * len(timed) / seconds,
        "tokens_per_second": sum(step["tokens"] for step in timed) / seconds,
        "peak_mib": peak,
        "trained": sum(value.numel() for value in lm.model.parameters() if value.requires_grad),
        "disk_mb": disk / 1e6,
        "losses": [step["loss"] for step in steps],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
