"""Preference alignment: margins, references, and what must not matter, on real models of several families."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import tiny
from burnish.errors import TrainingError
from burnish.models.adapters import Lora, attach
from burnish.models.chat import Rendered
from burnish.models.layout import Batch
from burnish.models.load import LanguageModel, load_model
from burnish.objectives.dpo import DPO
from burnish.objectives.parts import LossOutput, PairLogprobs, PairObjective
from burnish.objectives.reference_free import CPO, ORPO, SimPO
from burnish.training import answers
from burnish.training.answers import refuse_other_start
from burnish.training.optim import Optimization
from burnish.training.preference import RenderedPair, discounted, pair_reference, sides_of, train_preference
from burnish.training.state import METRICS
from burnish.training.step import RunOptions
from training_parts import (
    align,
    assert_losses_agree,
    assert_resumes_to_the_same_bits,
    losses,
    pairs,
    same,
    weights,
)


@pytest.mark.parametrize("lora", [None, Lora(rank=4)])
def test_dpo_starts_at_margin_zero_and_prefers_the_chosen(folder: Path, lora: Lora | None, tmp_path: Path) -> None:
    _, result = align(folder, tmp_path / "out", lora)
    first = json.loads((tmp_path / "out" / METRICS).read_text().splitlines()[0])
    assert first["margin"] == pytest.approx(0.0, abs=1e-4)
    assert first["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert result.loss_last < result.loss_first and result.metrics["margin"] > 0
    assert not lora or result.metrics["accuracy"] > 0.4


def test_what_pissa_rounds_away_is_no_other_start(folder: Path, tmp_path: Path) -> None:
    """In bfloat16 what is left of the matrices is rounded again, so the policy is not quite the reference."""
    if "qwen3_moe" in (folder / "config.json").read_text():
        pytest.skip("experts that are one tensor have no such start")
    _, result = align(folder, tmp_path / "out", Lora(rank=4, init="pissa"), dtype="bfloat16")
    assert losses(tmp_path / "out")[0] == pytest.approx(0.693147, abs=0.1)
    assert result.loss_last < result.loss_first and result.metrics["margin"] > 0


@pytest.mark.parametrize("lora", [None, Lora(rank=2, init="pissa")])
def test_a_killed_preference_run_resumes_to_the_same_bits(lora: Lora | None, llama: Path, tmp_path: Path) -> None:
    def train(run: RunOptions) -> LanguageModel:
        return align(llama, run["folder"], lora, dtype="bfloat16", run=run)[0]

    assert_resumes_to_the_same_bits(train, tmp_path)


@pytest.mark.parametrize("lora", [None, Lora(rank=4, dropout=0.5)])
def test_dropout_is_off_for_policy_and_reference(lora: Lora | None, tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path / "model", attention_dropout=0.5)
    align(folder, tmp_path / "out", lora)
    first = json.loads((tmp_path / "out" / METRICS).read_text().splitlines()[0])
    assert first["margin"] == pytest.approx(0.0, abs=1e-4)


def test_pairs_are_needed(llama: Path, tmp_path: Path) -> None:
    lm = load_model(llama, dtype="float32")
    with pytest.raises(TrainingError, match="no rows"):
        pair_reference(lm, [], tmp_path, Optimization(), 0)


def test_the_reference_is_per_token_computed_once_and_exact(folder: Path, tmp_path: Path) -> None:
    lm = load_model(folder, dtype="float32")
    found = pair_reference(lm, pairs(lm), tmp_path, Optimization(micro_tokens=64), 0)
    sums = found.sums("rejected", [pair.rejected for pair in pairs(lm)])
    for number, pair in enumerate(pairs(lm)):
        with torch.no_grad():
            values = lm.model(input_ids=torch.tensor([pair.rejected.ids])).logits[0].log_softmax(-1)
        turn = pair.rejected.turns[0]
        plain = sum(float(values[place - 1, pair.rejected.ids[place]]) for place in range(turn.start, turn.stop))
        assert float(sums[number]) == pytest.approx(plain, abs=1e-3)


def test_other_losses_epochs_and_seeds_use_a_reference_again_and_other_models_do_not(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = load_model(llama, dtype="float32")
    first = pair_reference(lm, pairs(lm), tmp_path, Optimization(), 0)
    for settings in (Optimization(epochs=5, learning_rate=1.0, batch_size=2), Optimization(schedule="wsd")):
        again = pair_reference(lm, pairs(lm), tmp_path, settings, 0)
        assert again.id == first.id and torch.equal(again.sides["chosen"], first.sides["chosen"])
    assert [path.stem for path in tmp_path.glob("*.safetensors")] == [first.id]
    assert capsys.readouterr().err.count("known already") == 2
    adapted = attach(load_model(llama, dtype="float32"), Lora(rank=2), seed=0)
    next(value for name, value in adapted.model.named_parameters() if "lora_B" in name).data[0, 0] = 1e-3
    others = [
        pair_reference(adapted, pairs(lm), tmp_path, Optimization(), 0),  # an adapter that has learned something
        pair_reference(lm, pairs(lm)[1:], tmp_path, Optimization(), 0),
        pair_reference(lm, pairs(lm), tmp_path, Optimization(micro_tokens=64), 0),  # sums in another order
    ]
    lm.model.config.rms_norm_eps *= 2  # a setting that no weight shows
    others.append(pair_reference(lm, pairs(lm), tmp_path, Optimization(), 0))
    for module in adapted.model.modules():
        if hasattr(module, "lora_A"):
            module.scaling["default"] *= 2
    others.append(pair_reference(adapted, pairs(lm), tmp_path, Optimization(), 0))
    assert len({first.id, *(one.id for one in others)}) == 6


def test_experts_in_four_bits_are_part_of_a_references_hash(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny.tiny_model("qwen3_moe", tmp_path / "model")
    names = set()
    for scale in (1.0, 1.0, 1.5):  # the same codes, and in the last run other constants
        model = AutoModelForCausalLM.from_pretrained(folder)
        model.model.layers[1].mlp.experts.down_proj.data *= scale
        model.save_pretrained(folder)
        lm = load_model(folder, dtype="float32", quantize=True)
        names.add(pair_reference(lm, pairs(lm), tmp_path / "out", Optimization(), 0).id)
    assert len(names) == 2


def test_a_reference_is_of_the_rows_that_training_draws(llama: Path, tmp_path: Path) -> None:
    short = Optimization(learning_rate=1e-2, batch_size=2, max_steps=2)
    found = {}
    for name, settings in (("some", short), ("all", Optimization())):
        (tmp_path / name).mkdir()
        lm = load_model(llama, dtype="float32")
        found[name] = pair_reference(lm, pairs(lm), tmp_path, settings, 3)
        train_preference(lm, pairs(lm), found[name], DPO(), short, seed=3, folder=tmp_path / name)
    assert losses(tmp_path / "some") == pytest.approx(losses(tmp_path / "all"), abs=1e-5)
    # two steps of two pairs draw four; another seed draws others
    assert len(found["some"].numbers) == 4 and len(found["all"].numbers) == len(pairs(lm)) > 4
    sums = {name: one.sums("chosen", [pair.chosen for pair in pairs(lm)]) for name, one in found.items()}
    known = torch.isfinite(sums["some"])
    assert known.nonzero()[:, 0].tolist() == found["some"].numbers
    assert torch.allclose(sums["some"][known], sums["all"][known], atol=1e-4) and sums["all"].isfinite().all()
    assert pair_reference(lm, pairs(lm), tmp_path, short, 4).numbers != found["some"].numbers


def test_another_reference_than_the_start_is_noticed(llama: Path, tmp_path: Path) -> None:
    other = load_model(tiny.tiny_model("llama", tmp_path / "other", seed=1), dtype="float32")
    lm = load_model(llama, dtype="float32")
    reference = pair_reference(other, pairs(lm), tmp_path, Optimization(), 0)
    before = weights(lm)
    with pytest.raises(TrainingError, match="nats a token apart before the first step"):
        train_preference(lm, pairs(lm), reference, DPO(), Optimization(), seed=0, folder=tmp_path)
    assert same(before, weights(lm))


@pytest.mark.parametrize(("noise", "noticed"), [(0.0, False), (0.05, True)])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_reference_whose_margins_are_zero_on_the_mean_is_noticed_too(
    llama: Path, kind: str, noise: float, noticed: bool, tmp_path: Path
) -> None:
    lm, other = (load_model(llama, dtype=kind) for _ in range(2))
    torch.manual_seed(0)
    for value in other.model.parameters():
        value.data *= 1 + noise * torch.randn_like(value)
    reference = pair_reference(other, pairs(lm), tmp_path, Optimization(), 0)
    sides = sides_of(pairs(lm))
    with pytest.raises(TrainingError, match="apart before") if noticed else nullcontext():
        refuse_other_start(lm, sides, reference, Optimization(), tmp_path)


def test_preference_micro_batches_change_only_rounding(llama: Path, tmp_path: Path) -> None:
    align(llama, tmp_path / "whole", micro_tokens=100_000)
    align(llama, tmp_path / "single", micro_tokens=1)
    assert_losses_agree(tmp_path / "whole", tmp_path / "single")


class _PushDown(DPO):
    """Makes both answers less likely, which a preference loss may do while it improves."""

    def loss(self, policy: PairLogprobs, reference: PairLogprobs) -> LossOutput:
        return LossOutput((policy.chosen + policy.rejected).sum(), super().loss(policy, reference).metrics)


def test_a_falling_likelihood_of_chosen_answers_is_said(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align(llama, tmp_path / "good", objective=DPO())
    assert "less likely" not in capsys.readouterr().err
    align(llama, tmp_path / "bad", objective=_PushDown(), learning_rate=1e-2)
    assert "chosen answers are" in (said := capsys.readouterr().err) and "less likely than at the start" in said


def test_the_reference_is_computed_in_smaller_passes_when_memory_runs_out(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = load_model(llama, dtype="float32")
    whole = pair_reference(lm, pairs(lm), tmp_path / "whole", Optimization(), 0)
    real = answers.token_logprobs

    def small_machine(model: object, batch: Batch) -> Tensor:
        if batch.tokens > 60:
            raise RuntimeError("CUDA error: out of memory")
        return real(model, batch)

    monkeypatch.setattr(answers, "token_logprobs", small_machine)
    tight = pair_reference(lm, pairs(lm), tmp_path / "tight", Optimization(micro_tokens=200), 0)
    assert "reference: out of memory; passes of 100 tokens" in capsys.readouterr().err
    for side, values in whole.sides.items():
        assert torch.allclose(values, tight.sides[side], atol=1e-5)


@pytest.mark.parametrize("objective", [SimPO(), CPO(), ORPO(), DPO(variant="aot"), DPO(variant="ipo", tail=0.5)])
def test_every_kind_of_pair_objective_trains(objective: PairObjective, llama: Path, tmp_path: Path) -> None:
    lm = load_model(llama, dtype="float32")
    made = pairs(lm)
    settings = Optimization(learning_rate=1e-2, batch_size=4, epochs=4, micro_tokens=64)
    reference = pair_reference(lm, made, tmp_path, settings, 0) if objective.needs_reference else None
    result = train_preference(lm, made, reference, objective, settings, seed=0, folder=tmp_path)
    assert result.loss_last < result.loss_first
    assert result.metrics["accuracy"] == 1.0


def test_a_pair_objective_of_ones_own_needs_only_a_loss(llama: Path, tmp_path: Path) -> None:
    class Mine(PairObjective):
        def loss(self, policy: PairLogprobs, reference: PairLogprobs) -> LossOutput:
            return LossOutput((policy.rejected - policy.chosen).sum())

    _, result = align(llama, tmp_path / "out", objective=Mine())
    assert result.loss_last < result.loss_first and result.metrics["chosen_gain"] > 0


def test_the_tail_of_the_longer_answer_is_discounted() -> None:
    row = lambda size: Rendered((1,) * (size + 1), (0.0, *[1.0] * size), ())  # noqa: E731
    (found,) = discounted([RenderedPair(row(4), row(2))], 0.25)
    assert found.chosen.weights == (0.0, 1.0, 1.0, 0.25, 0.25) and found.rejected.weights == (0.0, 1.0, 1.0)
