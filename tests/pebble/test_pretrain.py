"""Pretraining in miniature: packing, schedule, optimizer, and a resumed run that ends with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from burnish.pebble import load_path, pretrain
from burnish.pebble.optimizer import MuonAdam, orthogonalize
from burnish.pebble.pretrain import Packer, Progress, Run, learning_schedule, parse, window_at
from burnish.pebble.world import documents


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(load_path())


def test_rows_begin_with_a_document_and_cut_the_last(tokenizer: Any) -> None:
    # bos is token 1, the end of a document 2
    pages = [[1, *tokenizer(page, add_special_tokens=False)["input_ids"], 2] for page in documents(64, seed=3)]
    rows = Packer(tokenizer, 3, Progress()).rows(4, 64).tolist()
    for row in rows:
        expected: list[int] = []
        while len(expected) < 64:
            expected += pages.pop(0)
        assert row == expected[:64]


def test_packing_goes_on_after_a_stop(tokenizer: Any) -> None:
    whole = Packer(tokenizer, 3, Progress())
    first = whole.rows(8, 64)
    again = Packer(tokenizer, 3, Progress(page=whole.progress.page, waiting=list(whole.progress.waiting)))
    assert torch.equal(again.rows(200, 64), whole.rows(200, 64))
    assert first.shape == (8, 64)


def test_schedule_warms_up_stays_and_falls_to_zero() -> None:
    assert learning_schedule(0, 0.0) == 1 / 60
    assert learning_schedule(500, 0.3) == 1.0
    assert learning_schedule(500, 0.8) == pytest.approx(0.5)  # half of the last 40 %
    assert learning_schedule(500, 1.0) == 0.0
    assert [window_at(done) for done in (0.0, 0.39, 0.4, 0.89, 0.9, 1.0)] == [128, 128, 256, 256, 512, 512]


def test_orthogonalize_brings_singular_values_near_one() -> None:
    for shape in ((2, 16, 40), (2, 40, 16)):
        matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalize(matrices))
        assert values.min() > 0.6 and values.max() < 1.3
    # The directions stay: the polar factor of a diagonal matrix of positive numbers is the identity.
    factor = orthogonalize(torch.diag(torch.tensor([3.0, 2.0, 1.0]))[None])[0]
    assert torch.allclose(factor - torch.diag(factor.diagonal()), torch.zeros(3, 3), atol=1e-2)


def test_adam_takes_its_first_step_by_the_rate() -> None:
    # The first corrected moments are g and g^2, so the step is rate * sign(g) whatever the size of g.
    weight = torch.tensor([1.0, 1.0])
    MuonAdam({"norm": weight}, 0.1, 0.01, 0.0).step({"norm": torch.tensor([5.0, -0.2])}, 1.0, 1)
    assert torch.allclose(weight, torch.tensor([0.99, 1.01]))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run with a smaller batch, fewer pages and short rows."""
    monkeypatch.setattr(pretrain, "MICRO_TOKENS", 512)
    monkeypatch.setattr(pretrain, "TOKENIZER_PAGES", 3000)
    torch.set_num_threads(1)


def _run(out: Path, tokens: int, **changes: float) -> Run:
    settings = parse(["--out", str(out), "--tokens", str(tokens), "--batch-tokens", "512"])
    for name, value in changes.items():
        setattr(settings, name, value)
    return Run(settings)


def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, tiny: None) -> None:
    whole = _run(tmp_path / "whole", 512 * 6)
    whole.train()
    stopped = _run(tmp_path / "stopped", 512 * 6)
    for _ in range(3):
        stopped.step(learning_schedule(stopped.progress.step, stopped.done()), window_at(stopped.done()))
    stopped.save()
    del stopped
    resumed = _run(tmp_path / "stopped", 512 * 6)
    assert resumed.progress.step == 3
    resumed.train()
    ours = load_file(tmp_path / "stopped" / "weights" / "model.safetensors")
    theirs = load_file(tmp_path / "whole" / "weights" / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
