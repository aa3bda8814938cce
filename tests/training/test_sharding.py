"""Two processes on this machine (gloo) train as one does, and go on with each other's checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from burnish.training import sharding

SCRIPT = Path(__file__).parents[1] / "several.py"
BATCHED = {"micro_tokens": 64}  # several micro-batches a step, so that both processes have some


def trained(model: Path, out: Path, processes: int, *, dies: bool = False, **asked: Any) -> list[float]:
    """Losses of every step of a run in so many processes."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--rdzv-backend", "c10d",
              "--rdzv-endpoint", "localhost:0"] if processes > 1 else []  # fmt: skip
    done = subprocess.run([sys.executable, *launch, str(SCRIPT), str(model), str(out), json.dumps(asked)],
                          capture_output=True, text=True, timeout=200)  # fmt: skip
    assert (done.returncode != 0) == dies, done.stderr[-3000:]
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def furthest(one: Path, other: Path) -> float:
    """Largest difference between two runs' trained weights."""
    ours, theirs = (load_file(folder / "trained.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    return max(float((ours[name].float() - theirs[name].float()).abs().max()) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_two_processes_train_as_one(kind: str, shard: bool, tmp_path: Path) -> None:
    model = tiny.tiny_model("llama", tmp_path / "model", tie_word_embeddings=True)
    alone = trained(model, tmp_path / "one", 1, kind=kind, train=BATCHED)
    both = trained(model, tmp_path / "two", 2, kind=kind, train={**BATCHED, "shard": shard})
    assert both == pytest.approx(alone, abs=1e-5)
    assert furthest(tmp_path / "one", tmp_path / "two") < 1e-4


@pytest.mark.slow
def test_a_checkpoint_of_two_shards_resumes_on_one_process_and_back(tmp_path: Path) -> None:
    model = tiny.tiny_model("llama", tmp_path / "model")
    alone = trained(model, tmp_path / "one", 1, kind="sft", dtype="bfloat16", train=BATCHED)
    split: dict[str, Any] = {"kind": "sft", "dtype": "bfloat16", "train": {**BATCHED, "shard": True}}
    assert len(trained(model, tmp_path / "out", 2, dies=True, die_at=1, **split)) == 2
    whole = {**split, "train": BATCHED}
    assert len(trained(model, tmp_path / "out", 1, dies=True, die_at=3, **whole)) == 4
    resumed = trained(model, tmp_path / "out", 2, **split)
    assert resumed == pytest.approx(alone, rel=0.05)  # bfloat16 sums in another order, and masters in fp32
    assert len(resumed) == len(alone) == 6


def test_work_is_dealt_once_and_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [(3, "c"), (9, "a"), (4, "b"), (1, "e"), (2, "d")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    got = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        got.append(sharding.dealt(parts, even=False))
    assert got[0] == [(9, "a", True), (1, "e", True)]  # 10 tokens of work
    assert got[1] == [(4, "b", True), (3, "c", True), (2, "d", True)]  # 9
    even = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        even.append(sharding.dealt(parts, even=True))
    assert even[0] == [(9, "a", True), (3, "c", True), (1, "e", True)]
    assert even[1] == [(4, "b", True), (2, "d", True), (0, "e", False)]  # done again, and not counted


def test_alone_nothing_is_split() -> None:
    tensor = torch.ones(3)
    assert sharding.part_of(tensor) is tensor and sharding.whole(tensor) is tensor
    assert sharding.gathered(tensor, tensor) is tensor and sharding.scattered(tensor, tensor) is tensor
    assert sharding.dealt([(1, "b"), (2, "a")], even=True) == [(2, "a", True), (1, "b", True)]
