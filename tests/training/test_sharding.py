"""Two processes on this machine (gloo) train as one does, and go on with each other's checkpoints.

Most of the time goes into starting the processes, so one pair of them does all runs, and the tests look at those.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import several
import tiny
from burnish.training import sharding
from training_parts import Killed, apart, losses, same

pytestmark = pytest.mark.xdist_group("two processes")  # in one worker, which starts them once
KINDS = ["sft", "dpo", "kto"]
WAYS = pytest.mark.parametrize("shard", [False, True], ids=["gradients summed", "weights split"])
ROUGH = {"model": "untied", "dtype": "bfloat16", "shard": True}
FOUR_BITS = {"model": "experts", "quantize": True}
DIES_AT = 2


def runs_of_two() -> Iterator[tuple[str, dict[str, Any]]]:
    """What two processes do, by the name of the run's folder."""
    for shard in (False, True):
        for kind in KINDS:
            yield f"{kind} {shard}", {"model": "tied", "kind": kind, "shard": shard}
        yield f"two then one {shard}", {"model": "untied", "shard": shard, "die_at": DIES_AT}
        yield f"one then two {shard}", {"model": "untied", "shard": shard}
    yield "four bits", {**FOUR_BITS, "shard": True}
    yield "rough", ROUGH
    yield "rough killed", {**ROUGH, "die_at": DIES_AT}
    yield "rough killed", ROUGH


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"tied": "llama", "untied": "llama", "experts": "qwen3_moe"}
    return {name: str(tiny.tiny_model(kind, folder / name, tie_word_embeddings=name == "tied"))
            for name, kind in kinds.items()}  # fmt: skip


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As each of two processes has it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(models: dict[str, str], one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a run in this process, done once."""

    @cache
    def run(model: str, kind: str = "sft", quantize: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("alone")
        several.train(folder, model=models[model], kind=kind, quantize=quantize)
        return folder

    return run


@pytest.fixture(scope="module")
def both(models: dict[str, str], one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs of two processes; some go on where this process has begun."""
    folder = tmp_path_factory.mktemp("both")
    for shard in (False, True):
        with pytest.raises(Killed):
            several.train(folder / f"one then two {shard}", model=models["untied"], die_at=DIES_AT)
    runs = [(name, {**asked, "model": models[asked["model"]]}) for name, asked in runs_of_two()]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
               "--rdzv-endpoint", "localhost:0", several.__file__, str(folder), json.dumps(runs)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def assert_done(folder: Path) -> None:
    failed = folder / several.FAILED
    assert not failed.exists(), failed.read_text()


def assert_the_same_run(found: Path, expected: Path) -> None:
    """Up to rounding: the order of sums differs."""
    assert_done(found)
    assert len(losses(expected)) == 6
    assert losses(found) == pytest.approx(losses(expected), abs=1e-5)
    assert apart(load_file(found / several.TRAINED), load_file(expected / several.TRAINED)) < 1e-5


@pytest.mark.slow
@WAYS
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one(kind: str, shard: bool, both: Path, alone: Callable[..., Path]) -> None:
    assert_the_same_run(both / f"{kind} {shard}", alone("tied", kind))


@pytest.mark.slow
def test_experts_in_four_bits_stay_whole_beside_what_is_split(both: Path, alone: Callable[..., Path]) -> None:
    pytest.importorskip("bitsandbytes")
    assert_the_same_run(both / "four bits", alone(**FOUR_BITS))


@pytest.mark.slow
@WAYS
def test_a_checkpoint_of_two_processes_resumes_on_one(
    shard: bool, both: Path, alone: Callable[..., Path], models: dict[str, str]
) -> None:
    folder = both / f"two then one {shard}"
    assert_done(folder)
    assert len(losses(folder)) == DIES_AT + 1 and not (folder / several.TRAINED).exists()
    several.train(folder, model=models["untied"])
    assert_the_same_run(folder, alone("untied"))


@pytest.mark.slow
@WAYS
def test_a_checkpoint_of_one_process_resumes_on_two(shard: bool, both: Path, alone: Callable[..., Path]) -> None:
    assert_the_same_run(both / f"one then two {shard}", alone("untied"))


@pytest.mark.slow
def test_two_shards_resume_to_the_same_bits(both: Path) -> None:
    """In bfloat16, whose masters and moments are kept in other ways than those of fp32."""
    assert_done(both / "rough killed")
    assert losses(both / "rough killed") == losses(both / "rough")
    assert same(*(load_file(both / name / several.TRAINED) for name in ("rough", "rough killed")))


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
