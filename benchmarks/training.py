"""Training beside TRL: the same model, rows, order, batch and dtype, one after the other in one run.

    python benchmarks/training.py --pairs judged_outputs.parquet        # AlpacaEval's; Pebble's world when left out
    python benchmarks/training.py --quick                               # the small model only, about five minutes

TRL 1.16 lives in an environment of its own (.peers/trl, made on the first run; --peer-python names another). It gets
weights in the same number format, no gradient checkpointing, and padding-free batches where it has them if they are
faster; on a GPU its fused kernels and packing too. The number format is bf16 where the machine computes with it and
fp32 elsewhere, where TRL is many times as slow in bf16 (--dtype bfloat16 shows it). Both sides take steps of 4 rows
(--batch) of at most 1,024 tokens; the first steps are not counted. DPO is one epoch with a LoRA of rank 16 on all
linear layers, the reference included on both sides. Sides alternate; of several rounds the median counts. Peak memory
is the process's, or the GPU's. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import material
import torch
from sides import interpreter, measure

from burnish import hardware

PEAK = 989e12
"""Dense bf16 operations a second of an H100 SXM and an H200, by their data sheets."""
PEER_VERSIONS = ["trl==1.16.0", "datasets>=4.7"]
ON_GPU = torch.cuda.is_available()
JOBS: dict[str, tuple[str, str, list[list[str]], list[list[str]]]] = {
    "sft": ("sft", "rows_per_second", [[]], [[], ["--padding-free"]]),
    "dpo_lora": ("dpo", "rows_per_second", [[]], [[], ["--precompute"]]),
}
"""Name -> the method, what is compared, and the flags that we and TRL may each choose the best of."""
if ON_GPU:  # packed batches have other numbers of rows
    JOBS = {
        "sft": ("sft", "tokens_per_second", [[], ["--compile"]],
                [["--liger"], ["--liger", "--packing"], ["--liger", "--padding-free"]]),
        "dpo_lora": ("dpo", "rows_per_second", [[], ["--compile"]], [["--liger"], ["--liger", "--precompute"]]),
    }  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What both sides of a comparison are given."""

    rounds: int
    steps: int
    warm: int
    batch: int
    dtype: str
    peer: str
    """The peer's interpreter."""


def compare(work: Path, job: str, given: Setting) -> dict[str, float]:
    """Our speed and memory over TRL's, each with its fastest flags of the first round."""
    method, speed, *choices = JOBS[job]
    common = [str(work), method, "--steps", given.steps, "--warm", given.warm, "--batch", given.batch]
    common += ["--dtype", given.dtype]
    sides = ((sys.executable, "ours.py"), (given.peer, "peers/trl_training.py"))
    found: list[list[dict[str, Any]]] = [[], []]
    for number in range(given.rounds):
        for side, (python, script) in enumerate(sides):
            tried = [measure(python, script, *common, *flags) for flags in choices[side]]
            fastest = max(tried, key=lambda one: float(one[speed]))
            for flags, one in zip(choices[side], tried, strict=True):
                print(f"  {job} on {work.name}, round {number + 1}, {'TRL' if side else 'we'} {' '.join(flags)}:"
                      f" {one[speed]:,.3f} {speed}, {one['peak_mib']:,.0f} MiB", flush=True)  # fmt: skip
            choices[side] = [choices[side][tried.index(fastest)]]
            found[side].append(fastest)

    def ratio(key: str) -> float:
        ours, theirs = (statistics.median(one[key] for one in side) for side in found)
        return float(ours / theirs)

    row = {"speedup": round(ratio(speed), 2), "memory_ratio": round(ratio("peak_mib"), 3)}
    if ON_GPU and method == "sft":  # a LoRA's step has another count of operations
        rate = statistics.median(one["tokens_per_second"] for one in found[0])
        row |= {"tokens_per_second": round(rate), "mfu": round(6 * found[0][0]["trained"] * rate / PEAK, 3)}
    return row


def loss_difference(work: Path, steps: int, peer: str) -> float:
    """Largest difference of the losses of the first steps, in fp32 on the same batches."""
    largest = 0.0
    for method in ("sft", "dpo"):  # of all weights: adapters would start from other random numbers
        common = [str(work), method, "--steps", str(steps), "--warm", "0", "--dtype", "float32", "--full"]
        sides = ((sys.executable, "ours.py"), (peer, "peers/trl_training.py"))
        ours, theirs = (measure(python, script, *common)["losses"] for python, script in sides)
        largest = max(largest, *(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="parquet with instruction, output, baseline_output, preference")
    parser.add_argument("--quick", action="store_true", help="the 10 M model, few steps, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=list(material.SHAPES), help="this shape only")
    parser.add_argument("--steps", type=int, default=6, help="steps of each side, the first two not counted")
    parser.add_argument("--batch", type=int, default=4, help="rows or pairs in a step; 32 keeps a GPU busy")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"], help="of both sides")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--peer-python", help="an interpreter that has TRL; an environment is made without it")
    parser.add_argument("--no-losses", action="store_true", help="leave out the comparison of the first losses")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "burnish-benchmark")
    options = parser.parse_args()
    shapes = [options.model] if options.model else ["10m"] if options.quick else ["135m", "10m"]
    rounds, steps, warm = (1, 2, 1) if options.quick else (options.rounds, options.steps, 2)
    peer = options.peer_python or interpreter("trl", ["torch", "transformers", "peft", *PEER_VERSIONS])
    kind, why = hardware.dtype(options.dtype, "cuda" if ON_GPU else "cpu")
    print(f"{kind}: {why}", flush=True)
    setting = Setting(rounds, steps, warm, options.batch, kind, peer)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for shape in shapes:
        work = options.work / shape
        work.mkdir(parents=True, exist_ok=True)
        material.make(work, shape, options.pairs, steps * options.batch)
        results[shape] = {job: compare(work, job, setting) for job in options.jobs}
    compared = 2 if options.quick else 4
    difference = None if options.no_losses else loss_difference(options.work / shapes[-1], compared, peer)
    for shape, jobs in results.items():
        for job, row in jobs.items():
            speed, memory = row["speedup"], row["memory_ratio"]
            print(f"{shape:5} {job:9} {speed:5.2f} times TRL's rows a second, {memory:.2f} of its memory")
    first = results[shapes[0]]
    print(json.dumps({
        **{f"{job}_{key}": value for job, row in first.items() for key, value in row.items()},
        "loss_max_diff": None if difference is None else round(difference, 6), "model": shapes[0], "dtype": kind,
        "losses_of": shapes[-1], "all": results,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
