"""What adapters save: parameters that train, memory, time and size on disk, of all weights against LoRA and QLoRA.

    python benchmarks/adapters.py --pairs judged_outputs.parquet      # AlpacaEval's; Pebble's world when left out

Supervised fine-tuning of a SmolLM2-135M-shaped model in bfloat16 on rows of at most 1,024 tokens, 4 in a step, each
setting in a process of its own, one after the other; of several rounds the median counts. What adapters cost in
accuracy is measured by recipes/adapters.yaml. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import material

from training import measure

SETTINGS: dict[str, list[str]] = {
    "all weights": [],
    "all weights, adamw32bit": ["--optimizer", "adamw32bit"],
    "all weights, adamw8bit": ["--optimizer", "adamw8bit"],
    "all weights, checkpointing": ["--checkpointing"],
    "LoRA, rank 4": ["--lora", "4"],
    "LoRA, rank 16": ["--lora", "16"],
    "LoRA, rank 64": ["--lora", "64"],
    "LoRA, rank 16, checkpointing": ["--lora", "16", "--checkpointing"],
    "QLoRA, rank 16": ["--lora", "16", "--quantize"],
}
"""Name -> our flags."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="parquet with instruction, output, baseline_output, preference")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps, the first not counted")
    parser.add_argument("--model", choices=list(material.SHAPES), default="135m")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "burnish-benchmark")
    options = parser.parse_args()
    work = options.work / options.model
    work.mkdir(parents=True, exist_ok=True)
    material.make(work, options.model, options.pairs, options.steps * 4)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
    for number in range(options.rounds):
        for name, flags in SETTINGS.items():
            common = [str(work), "sft", "--steps", str(options.steps), "--warm", "1"]
            found[name].append(measure(sys.executable, "ours.py", *common, *flags))
            row = found[name][-1]
            print(f"  round {number + 1}, {name}: {row['rows_per_second']:.2f} rows/s, {row['peak_mib']:,.0f} MiB",
                  flush=True)  # fmt: skip
    rows = {name: {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "losses"}
            for name, runs in found.items()}  # fmt: skip
    whole = rows["all weights"]
    print("\n| setting | parameters that train | on disk, MB | peak memory, MiB | rows a second, of all weights' |\n"
          "|---|---|---|---|---|")  # fmt: skip
    for name, row in rows.items():
        print(f"| {name} | {row['trained']:,.0f} ({row['trained'] / whole['trained']:.1%}) | {row['disk_mb']:,.1f} |"
              f" {row['peak_mib']:,.0f} ({row['peak_mib'] / whole['peak_mib']:.2f}) |"
              f" {row['rows_per_second'] / whole['rows_per_second']:.2f} |")  # fmt: skip
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
