"""5-shot MMLU beside lm-evaluation-harness's own backend: the same model, documents, prompts and dtype, in one run.

    python benchmarks/evaluation.py --mmlu FOLDER --pairs judged_outputs.parquet     # FOLDER has test.jsonl, dev.jsonl
    python benchmarks/evaluation.py --mmlu FOLDER --quick                            # one subject, small model

lm_eval 0.4.13 lives in an environment of its own (.peers/lm_eval, made on the first run). Its HFLM gets the batch size
that is fastest for it here. Both sides are asked by the same task definitions, so they see the same requests, and both
are timed from the first request to the last answer, tokenization included. Whole subjects are scored, because sharing
their examples is the point. Answers are compared document by document in fp32. The last line is JSON.
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
from sides import interpreter, measure

PEER_VERSIONS = ["lm-eval[hf]==0.4.13", "datasets>=4.7"]
BATCHES = [1, 4, 8, 16]
"""Batch sizes that the peer may choose from."""


def peer_python() -> str:
    """The peer's interpreter."""
    return interpreter("lm_eval", ["torch", "transformers", *PEER_VERSIONS])


def lay_out(source: Path, folder: Path, subjects: int) -> list[str]:
    """MMLU as a folder that `datasets` reads without a network; the subjects that are scored."""
    parts: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for split in ("dev", "test"):
        for line in (source / f"{split}.jsonl").open(encoding="utf-8"):
            row = json.loads(line)
            kept = {key: row[key] for key in ("question", "subject", "choices", "answer")}
            parts.setdefault(row["subject"], {}).setdefault(split, []).append(kept)
    header = ["---", "configs:"]
    for subject, splits in parts.items():
        header += [f"- config_name: {subject}", "  data_files:"]
        for split, rows in splits.items():
            path = folder / subject / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            header += [f"  - split: {split}", f"    path: {subject}/{split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*header, "---", ""]), encoding="utf-8")
    names = sorted(parts)
    return names[:: max(1, len(names) // subjects)][:subjects]  # from all over the list: prompts of 300 to 3,000 tokens


def best_batch(common: list[str], dtype: str) -> int:
    """The peer's fastest batch size, on a part of the first subject."""
    speeds = {}
    for size in BATCHES:
        found = measure(peer_python(), "peers/lm_eval_mmlu.py", *common, "--dtype", dtype, "--batch", str(size),
                        "--limit", "16", "--only-first")  # fmt: skip
        speeds[size] = found["questions"] / found["seconds"]
    best = max(speeds, key=lambda size: speeds[size])
    shown = ", ".join(f"{size}: {speed:.2f}" for size, speed in speeds.items())
    print(f"  lm-eval, {dtype}, questions/s by batch size: {shown}", flush=True)
    return best


def compare(common: list[str], dtype: str, rounds: int) -> dict[str, Any]:
    """Speeds, memory and answers of both sides, which take turns; medians over the rounds."""
    batch = best_batch(common, dtype)
    ours, theirs = [], []
    for number in range(rounds):
        ours.append(measure(sys.executable, "ours_mmlu.py", *common, "--dtype", dtype))
        theirs.append(measure(peer_python(), "peers/lm_eval_mmlu.py", *common, "--dtype", dtype, "--batch", str(batch)))
        mine, other = ours[-1], theirs[-1]
        print(f"  {dtype}, round {number + 1}: {mine['questions'] / mine['seconds']:.2f} questions/s against"
              f" {other['questions'] / other['seconds']:.2f} (batch {batch}), {mine['peak_mib']:,.0f} MiB against"
              f" {other['peak_mib']:,.0f}", flush=True)  # fmt: skip

    def median(rows: list[dict[str, Any]], key: str) -> float:
        return statistics.median(row[key] for row in rows)

    values = zip(ours[0]["values"], theirs[0]["values"], strict=True)
    return {
        "speedup": round(median(theirs, "seconds") / median(ours, "seconds"), 2),
        "memory_ratio": round(median(ours, "peak_mib") / median(theirs, "peak_mib"), 3),
        "disagreements": sum(a != b for a, b in zip(ours[0]["answers"], theirs[0]["answers"], strict=True)),
        "largest_difference": max(abs(a - b) for one, other in values for a, b in zip(one, other, strict=True)),
        "questions": ours[0]["questions"], "batch": batch,
        "ours_per_second": round(ours[0]["questions"] / median(ours, "seconds"), 3),
        "theirs_per_second": round(ours[0]["questions"] / median(theirs, "seconds"), 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmlu", type=Path, required=True, help="folder with test.jsonl and dev.jsonl")
    parser.add_argument("--pairs", type=Path, help="parquet whose text trains the tokenizer; Pebble's world without it")
    parser.add_argument("--quick", action="store_true", help="one subject, the 10 M model")
    parser.add_argument("--model", choices=list(material.SHAPES), default="135m")
    parser.add_argument("--subjects", type=int, default=4, help="whole subjects that are scored")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "burnish-benchmark")
    options = parser.parse_args()
    shape, subjects = ("10m", 1) if options.quick else (options.model, options.subjects)
    work = options.work / f"mmlu-{shape}"
    work.mkdir(parents=True, exist_ok=True)
    material.make(work, shape, options.pairs, 24)
    config = work / "model" / "config.json"  # the longest subjects need more than training does
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 8192}), encoding="utf-8")
    names = lay_out(options.mmlu, work / "data", subjects)
    common = [str(work), *names]
    print(f"{shape}: {', '.join(names)}", flush=True)
    results = {dtype: compare(common, dtype, options.rounds) for dtype in ("bfloat16", "float32")}
    for dtype, row in results.items():
        print(f"{dtype:9} {row['speedup']:5.2f} times lm-eval's questions a second, {row['memory_ratio']:.2f} of its"
              f" memory, {row['disagreements']} of {row['questions']} answers differ,"
              f" log-probabilities by at most {row['largest_difference']:.2g}")  # fmt: skip
    print(json.dumps({
        "mmlu_speedup_bf16": results["bfloat16"]["speedup"], "mmlu_speedup_fp32": results["float32"]["speedup"],
        "mmlu_disagreements_fp32": results["float32"]["disagreements"],
        "memory_ratio": max(row["memory_ratio"] for row in results.values()), "model": shape, "all": results,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
