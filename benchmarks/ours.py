"""Our side of `training.py`, in a process of its own: prints one JSON line."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

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
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--micro", type=int, default=None)
    options = parser.parse_args()
    rows = [json.loads(line) for line in (options.work / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = rows[: options.steps * options.batch]
    lm = load_model(options.work / "model", dtype=options.dtype)
    train = Optimization(
        learning_rate=options.rate, schedule="constant", warmup=0.0, batch_size=options.batch, betas=(0.9, 0.999),
        shuffle=False, compile=options.compile, micro_tokens=options.micro,
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp())
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
        lm = lm if options.full else attach(lm, Lora(rank=16, alpha=32), 0)
        began = time.perf_counter()
        reference = pair_reference(lm, both, folder, train)
        reference_seconds = time.perf_counter() - began
        train_preference(lm, both, reference, DPO(beta=0.1), train, seed=0, folder=folder)
    steps = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    timed = steps[options.warm :]
    seconds = sum(step["seconds"] for step in timed) + reference_seconds * len(timed) / len(steps)
    print(json.dumps({
        "rows_per_second": options.batch * len(timed) / seconds,
        "tokens_per_second": sum(step["tokens"] for step in timed) / seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "losses": [step["loss"] for step in steps],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
