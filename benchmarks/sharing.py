"""What sharing prompts gains in preference training: the same pairs and steps as token trees and as padded rows.

    python benchmarks/sharing.py --pairs hh.jsonl.gz --count 64

Both are our own loop, alternating in one process; the median of the rounds counts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import material

from burnish.data.ingest import ingest
from burnish.models.adapters import Lora, attach
from burnish.models.chat import ChatTemplate
from burnish.models.load import load_model, load_tokenizer
from burnish.objectives.dpo import DPO
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, pair_reference, train_preference
from burnish.types import PreferencePair


def fits(chat: ChatTemplate, pair: PreferencePair) -> bool:
    """Whether both answers stay within the benchmark's longest row."""
    return all(len(chat.answer_ids(pair.prompt, side).ids) <= material.LONGEST for side in (pair.chosen, pair.rejected))


def seconds(folder: Path, pairs: list[PreferencePair], trees: bool) -> tuple[float, float]:
    """Wall time of the reference and one epoch of DPO with LoRA, and the first step's loss."""
    lm = attach(load_model(folder, dtype="bfloat16"), Lora(rank=16), 0)
    lm.__dict__["trees"] = trees
    rows = [
        RenderedPair(lm.chat.answer_ids(p.prompt, p.chosen), lm.chat.answer_ids(p.prompt, p.rejected)) for p in pairs
    ]
    train = Optimization(learning_rate=1e-4, batch_size=8, shuffle=False)
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        reference = pair_reference(lm, rows, Path(name), train, 0)
        result = train_preference(lm, rows, reference, DPO(), train, seed=0, folder=Path(name))
        return time.perf_counter() - began, result.loss_first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="preference pairs in any format that `ingest` reads")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=list(material.SHAPES), default="10m")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "burnish-sharing")
    options = parser.parse_args()
    work = options.work / options.shape
    work.mkdir(parents=True, exist_ok=True)
    material.make(work, options.shape, None, 16)
    found = [row for row in ingest([options.pairs], "auto").rows if isinstance(row, PreferencePair)]
    chat = ChatTemplate(load_tokenizer(work / "model"))
    pairs = [row for row in found if len(row.prompt) > 1 and fits(chat, row)][: options.count]
    timed: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(options.rounds):
        for trees in (True, False):
            took, loss = seconds(work / "model", pairs, trees)
            timed[trees].append(took)
            print(f"{'trees ' if trees else 'padded'} {took:6.1f} s, first loss {loss:.5f}", flush=True)
    gain = statistics.median(timed[False]) / statistics.median(timed[True])
    print(json.dumps({"pairs": len(pairs), "sharing_speedup": round(gain, 2)}))


if __name__ == "__main__":
    main()
