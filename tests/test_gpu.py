"""What a GPU computes is what a CPU computes. Run where there is one: `pytest -m gpu`.

Everything is fp32, where the two differ by the order of sums alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from burnish.engines.local import LocalEngine
from burnish.models.adapters import Lora, attach
from burnish.models.attention import flex, tree_attention
from burnish.models.layout import plant
from burnish.models.load import LanguageModel, load_model
from burnish.models.logprobs import Head, head_logprobs
from burnish.objectives.dpo import DPO
from burnish.objectives.sft import SFT
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, pair_reference, train_preference
from burnish.training.supervised import train_supervised
from burnish.types import Message, Sampling
from training_parts import TEXTS, losses, weights

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")
]  # fmt: skip
BOTH = ("cpu", "cuda")
TRAIN: dict[str, Any] = {"learning_rate": 1e-3, "schedule": "constant", "warmup": 0.0, "batch_size": 3, "epochs": 2}


def loaded(folder: Path, device: str, rank: int = 0, **settings: Any) -> LanguageModel:
    lm = load_model(folder, dtype="float32", device=device, **settings)
    return attach(lm, Lora(rank=rank, quantize=settings.get("quantize", False)), seed=0) if rank else lm


def sft(lm: LanguageModel, folder: Path, **settings: Any) -> list[float]:
    """The losses of a few steps."""
    folder.mkdir()
    turns = [(Message("user", a), Message("assistant", b)) for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    rows = [lm.chat.render(both) for both in turns]
    train_supervised(lm, rows, SFT(), Optimization(**{**TRAIN, **settings}), seed=0, folder=folder)
    return losses(folder)


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize(("window", "softcap", "sinks"), [(0, 0.0, False), (16, 0.0, True), (8, 3.0, False)])
def test_attention_over_trees(window: int, softcap: float, sinks: bool, width: int) -> None:
    shared = tuple(range(100, 300))
    segments = plant([(*shared, *range(30)), (*shared, *range(50, 165)), tuple(range(3, 9))], least=8).table()
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(1, heads, int(segments[-1, 1]), width, generator=draw) for heads in (4, 2, 2)]
    upstream = torch.randn(1, parts[0].shape[2], 4, width, generator=draw)
    found = []
    for device, attention in zip(BOTH, (tree_attention, flex), strict=True):
        own = [torch.tensor([0.5, -1.0, 2.0, 0.0])] if sinks else []
        leaves = [part.to(device).requires_grad_() for part in (*parts, *own)]
        output = attention(*leaves[:3], segments, 0.3, window, softcap, *leaves[3:])
        found.append([output, *torch.autograd.grad(output, leaves, upstream.to(device))])
    for ours, plain in zip(found[1], found[0], strict=True):
        assert torch.allclose(ours.cpu(), plain, atol=1e-4)


@pytest.mark.parametrize("learns", [True, False], ids=["head learns", "head frozen"])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_log_probabilities(softcap: float | None, learns: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(*shape, generator=draw) for shape in ((40, 16), (5000, 16), (5000,))]
    tokens, upstream = torch.randint(0, 5000, (40,), generator=draw), torch.randn(40, generator=draw)
    found = []
    for device in BOTH:
        hidden, weight, bias = (value.to(device) for value in values)
        leaves = [one.requires_grad_() for one in ((hidden, weight, bias) if learns else (hidden,))]
        output = head_logprobs(hidden, tokens.to(device), Head(weight, bias, 0.5, softcap))
        found.append([output, *torch.autograd.grad(output, leaves, upstream.to(device))])
    for ours, plain in zip(found[1], found[0], strict=True):
        assert torch.allclose(ours.cpu(), plain, atol=1e-4)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_training(kind: str, tmp_path: Path) -> None:
    folder = tiny.tiny_model(kind, tmp_path / "model")
    plain, ours, compiled = (loaded(folder, device) for device in ("cpu", "cuda", "cuda"))
    assert ours.trees == plain.trees
    expected = sft(plain, tmp_path / "plain")
    assert sft(ours, tmp_path / "ours") == pytest.approx(expected, rel=1e-4)
    assert sft(compiled, tmp_path / "compiled", compile=True) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("settings", [{"optimizer": "muon"}, {"checkpointing": True}, {"micro_tokens": 40}])
def test_settings_of_training(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path / "model")
    plain, ours = (sft(loaded(folder, device), tmp_path / device, **settings) for device in BOTH)
    assert ours == pytest.approx(plain, rel=1e-3)


def test_moments_of_eight_bits(tmp_path: Path) -> None:
    lm = loaded(tiny.tiny_model("llama", tmp_path / "model"), "cuda")
    found = sft(lm, tmp_path / "run", optimizer="adamw8bit", epochs=10)
    assert found[-1] < 0.8 * found[0]


def test_masters_of_bfloat16(tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path / "model")
    models = [load_model(folder, dtype="bfloat16", device=device) for device in BOTH]
    before = weights(models[0])
    for device, lm in zip(BOTH, models, strict=True):
        sft(lm, tmp_path / device)
    moved = [torch.cat([(one.cpu().float() - before[name].float()).flatten() for name, one in weights(lm).items()])
             for lm in models]  # fmt: skip
    assert torch.cosine_similarity(*moved, dim=0) > 0.98


def test_preferences_with_an_adapter(tmp_path: Path) -> None:
    folder = tiny.tiny_model("qwen3", tmp_path / "model")
    found = []
    for device in BOTH:
        lm, out = loaded(folder, device, rank=4), tmp_path / device
        out.mkdir()
        asked = [(Message("user", text),) for text in TEXTS]
        pairs = [RenderedPair(lm.chat.answer_ids(one, text), lm.chat.answer_ids(one, text[::-1]))
                 for one, text in zip(asked, TEXTS[::-1], strict=True)]  # fmt: skip
        train = Optimization(**TRAIN)
        train_preference(lm, pairs, pair_reference(lm, pairs, out, train, 0), DPO(beta=0.1), train, seed=0, folder=out)
        found.append(losses(out))
    assert found[1] == pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
def test_adapters_on_four_bits(compiled: bool, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny.tiny_model("llama", tmp_path / "model", hidden_size=64, num_attention_heads=4)
    lm = loaded(folder, "cuda", rank=8, quantize=True)
    found = sft(lm, tmp_path / "run", epochs=20, learning_rate=1e-2, compile=compiled)
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_answers_and_choices(kind: str, tmp_path: Path) -> None:
    folder = tiny.tiny_model(kind, tmp_path / "model")
    plain, ours = (LocalEngine(load_model(folder, dtype="float32", device=device)) for device in BOTH)
    prompts = [(Message("user", text),) for text in TEXTS]
    for sampling in (Sampling(max_tokens=12), Sampling(max_tokens=12, temperature=1.0, seed=3)):
        expected, found = (engine.generate(prompts, sampling, n=2) for engine in (plain, ours))
        assert [[one.ids for one in group] for group in found] == [[one.ids for one in group] for group in expected]
    options = [["42.", "fox", "the lazy dog"]] * len(prompts)
    for ours_of, plain_of in zip(ours.choices(prompts, options), plain.choices(prompts, options), strict=True):
        assert [one.logprob for one in ours_of] == pytest.approx([one.logprob for one in plain_of], abs=1e-3)
