"""Training beside TRL: the same model, rows, order, batch and dtype, one after the other in one run.

    python benchmarks/training.py --pairs judged_outputs.parquet        # AlpacaEval's; Pebble's world when left out
    python benchmarks/training.py --quick                               # the small model only, in five minutes

TRL 1.16 lives in an environment of its own (.peers/trl, made on the first run). It gets bf16 weights, no gradient
checkpointing, and padding-free batches where it has them if they are faster. Both sides take steps of 4 rows of at most
1,024 tokens; the first steps are not counted. DPO is one epoch with a LoRA of rank 16 on all linear layers, the
reference included on both sides. Sides alternate; of several rounds the median counts. Peak memory is the process's.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import material
from sides import interpreter, measure

PEER_VERSIONS = ["trl==1.16.0", "datasets>=4.7"]
JOBS: dict[str, tuple[str, list[str], list[list[str]]]] = {
    "sft": ("sft", [], [[], ["--padding-free"]]),
    "dpo_lora": ("dpo", [], [[], ["--precompute"]]),
}
"""Name -> the method, our flags, and the flags that TRL may choose its best of."""


def peer_python() -> str:
    """The peer's interpreter."""
    return interpreter("trl", ["torch", "transformers", "peft", *PEER_VERSIONS])


def compare(work: Path, job: str, steps: int, warm: int, rounds: int, dtype: str = "bfloat16") -> dict[str, float]:
    """Our speed and memory over TRL's."""
    method, mine, choices = JOBS[job]
    common = [str(work), method, "--steps", str(steps), "--warm", str(warm), "--dtype", dtype]
    ours, theirs = [], []
    best = choices[0]
    for number in range(rounds):
        ours.append(measure(sys.executable, "ours.py", *common, *mine))
        tried = choices if number == 0 else [best]
        found = [measure(peer_python(), "peers/trl_training.py", *common, *flags) for flags in tried]
        fastest = max(found, key=lambda one: one["rows_per_second"])
        best = tried[found.index(fastest)]
        theirs.append(fastest)
        print(f"  {job} on {work.name}, round {number + 1}: {ours[-1]['rows_per_second']:.3f} rows/s against"
              f" {fastest['rows_per_second']:.3f} ({' '.join(best) or 'no flags'}),"
              f" {ours[-1]['peak_mib']:,.0f} MiB against {fastest['peak_mib']:,.0f}", flush=True)  # fmt: skip

    def ratio(key: str) -> float:
        return statistics.median(one[key] for one in ours) / statistics.median(one[key] for one in theirs)

    return {"speedup": round(ratio("rows_per_second"), 2), "memory_ratio": round(ratio("peak_mib"), 3)}


def loss_difference(work: Path, steps: int) -> float:
    """Largest difference of the losses of the first steps, in fp32 on the same batches."""
    largest = 0.0
    for method in ("sft", "dpo"):  # of all weights: adapters would start from other random numbers
        common = [str(work), method, "--steps", str(steps), "--warm", "0", "--dtype", "float32", "--full"]
        sides = ((sys.executable, "ours.py"), (peer_python(), "peers/trl_training.py"))
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
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "burnish-benchmark")
    options = parser.parse_args()
    shapes = [options.model] if options.model else ["10m"] if options.quick else ["135m", "10m"]
    rounds, steps, warm = (1, 4, 1) if options.quick else (options.rounds, options.steps, 2)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for shape in shapes:
        work = options.work / shape
        work.mkdir(parents=True, exist_ok=True)
        material.make(work, shape, options.pairs, steps * 4)
        results[shape] = {job: compare(work, job, steps, warm, rounds) for job in JOBS}
    difference = loss_difference(options.work / shapes[-1], 4)
    for shape, jobs in results.items():
        for job, row in jobs.items():
            speed, memory = row["speedup"], row["memory_ratio"]
            print(f"{shape:5} {job:9} {speed:5.2f} times TRL's rows a second, {memory:.2f} of its memory")
    first = results[shapes[0]]
    print(json.dumps({
        **{f"{job}_{key}": value for job, row in first.items() for key, value in row.items()},
        "loss_max_diff": round(difference, 6), "model": shapes[0], "all": results,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
