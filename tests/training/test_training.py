"""The loops on real tiny models: invariances to the bit or to rounding, resume, and what they refuse."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

import tiny
from burnish import hardware
from burnish.errors import TrainingError
from burnish.models.adapters import Lora, attach
from burnish.models.chat import Rendered
from burnish.models.layout import Batch
from burnish.models.load import LanguageModel, load_model
from burnish.objectives.dpo import DPO
from burnish.objectives.sft import SFT
from burnish.training import answers, state
from burnish.training import supervised as supervised_module
from burnish.training.batch import row_order
from burnish.training.optim import MasterOptimizer, Optimization
from burnish.training.preference import pair_reference, train_preference
from burnish.training.state import CHECKPOINT, METRICS, Keeper, TrainResult
from burnish.training.step import RunOptions, _Run
from burnish.training.supervised import train_supervised
from burnish.types import Message
from training_parts import (
    TEXTS,
    align,
    apart,
    assert_losses_agree,
    assert_resumes_to_the_same_bits,
    losses,
    options,
    pairs,
    same,
    weights,
)


def rows(lm: LanguageModel, count: int = 12) -> list[Rendered]:
    return [
        lm.chat.render((Message("user", TEXTS[n % 6]), Message("assistant", f"{TEXTS[(n * 5 + 1) % 6]} {n}")))
        for n in range(count)
    ]


def start(folder: Path, dtype: str = "float32", lora: Lora | None = None) -> LanguageModel:
    lm = load_model(folder, dtype=dtype, quantize=bool(lora and lora.quantize))
    return attach(lm, lora, seed=1) if lora else lm


def supervised(
    folder: Path, out: Path, dtype: str = "float32", lora: Lora | None = None, run: RunOptions | None = None,
    **settings: object,
) -> tuple[LanguageModel, TrainResult]:  # fmt: skip
    out.mkdir(exist_ok=True)
    lm = start(folder, dtype, lora)
    optimization = Optimization(**{"learning_rate": 1e-2, "batch_size": 4, "epochs": 2, **settings})  # type: ignore[arg-type]
    return lm, train_supervised(lm, rows(lm), SFT(), optimization, **(run or {"seed": 0, "folder": out}))


# ----------------------------------------------------------------------------------------------------------- supervised


def test_the_loss_is_the_mean_over_learned_tokens_and_falls(folder: Path, tmp_path: Path) -> None:
    lm, result = supervised(folder, tmp_path / "out")
    start = load_model(folder, dtype="float32")
    first = [rows(start)[number] for number in row_order([[row] for row in range(12)], 4, seed=0)]
    total = count = 0.0
    for row in first:
        with torch.no_grad():
            values = start.model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for turn in row.turns:
            total -= sum(float(values[place - 1, row.ids[place]]) for place in range(turn.start, turn.stop))
            count += turn.stop - turn.start
    assert losses(tmp_path / "out")[0] == pytest.approx(total / count, abs=1e-4)
    assert result.steps == 6 and result.loss_last < result.loss_first
    assert result.tokens == 2 * sum(len(row.ids) for row in rows(lm))
    assert result.learned == 2 * sum(int(sum(row.weights)) for row in rows(lm))


def test_a_turn_counts_as_much_as_its_weight_says(llama: Path, tmp_path: Path) -> None:
    """Two answers, the second three times as much: the weighted mean of their tokens' losses."""
    lm = load_model(llama, dtype="float32")
    turns = (
        Message("user", "one"), Message("assistant", "alpha", train=1.0),
        Message("user", "two"), Message("assistant", "beta gamma", train=3.0),
    )  # fmt: skip
    row = lm.chat.render(turns)
    with torch.no_grad():
        values = lm.model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
    spans = [range(turn.start, turn.stop) for turn in row.turns]
    first, second = ([-float(values[place - 1, row.ids[place]]) for place in span] for span in spans)
    expected = (sum(first) + 3 * sum(second)) / (len(first) + 3 * len(second))
    settings = Optimization(batch_size=1, max_steps=1)
    result = train_supervised(lm, [row], SFT(), settings, seed=0, folder=tmp_path)
    assert losses(tmp_path) == [pytest.approx(expected, abs=1e-4)]
    assert result.learned == len(first) + 3 * len(second)
    assert expected != pytest.approx((sum(first) + sum(second)) / (len(first) + len(second)), abs=1e-2)


def test_the_cut_into_micro_batches_changes_only_rounding(folder: Path, tmp_path: Path) -> None:
    """One batch of four at once, and one row at a time (1 x 4 = 4 x 1); padding has no say either."""
    whole, _ = supervised(folder, tmp_path / "whole", micro_tokens=100_000)
    single, _ = supervised(folder, tmp_path / "single", micro_tokens=1)
    assert_losses_agree(tmp_path / "whole", tmp_path / "single")
    assert apart(weights(whole), weights(single)) < 1e-3


def test_a_run_repeats_to_the_same_bits(llama: Path, tmp_path: Path) -> None:
    first, _ = supervised(llama, tmp_path / "a", dtype="bfloat16")
    second, _ = supervised(llama, tmp_path / "b", dtype="bfloat16")
    assert same(weights(first), weights(second))


@pytest.mark.parametrize(
    ("lora", "optimizer"),
    [(None, "adamw"), (Lora(rank=2, dropout=0.1), "adamw"), (Lora(rank=2, init="pissa"), "adamw"),
     (None, "adamw8bit"), (None, "muon")],
)  # fmt: skip
def test_a_killed_run_resumes_to_the_same_bits(lora: Lora | None, optimizer: str, llama: Path, tmp_path: Path) -> None:
    def train(run: RunOptions) -> LanguageModel:
        return supervised(llama, run["folder"], "bfloat16", lora, run, optimizer=optimizer)[0]

    assert_resumes_to_the_same_bits(train, tmp_path)


def test_another_number_format_begins_anew(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dtype: auto` means another one on another machine."""
    supervised(llama, tmp_path / "out", "bfloat16")
    again, _ = supervised(llama, tmp_path / "out", "float32")
    whole, _ = supervised(llama, tmp_path / "whole", "float32")
    assert "training begins anew" in capsys.readouterr().err and same(weights(again), weights(whole))


def test_ctrl_c_finishes_the_step_and_keeps_a_checkpoint(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = supervised(llama, tmp_path / "whole")
    real = MasterOptimizer.step

    def pressed(self: MasterOptimizer, rate: float) -> float:
        """Ctrl-C in the middle of the third step, when the weights have moved and the step is not yet counted."""
        norm = real(self, rate)
        if len(losses(tmp_path / "out")) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return norm

    with monkeypatch.context() as patch:
        patch.setattr(MasterOptimizer, "step", pressed)
        with pytest.raises(KeyboardInterrupt):
            supervised(llama, tmp_path / "out")
    state = torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)
    assert state["progress"]["step"] == 3, "the step is finished first"
    resumed, _ = supervised(llama, tmp_path / "out")
    assert same(weights(whole), weights(resumed))


def test_small_steps_are_not_lost_to_rounding(llama: Path, tmp_path: Path) -> None:
    """At a rate of 1e-5, bfloat16 weights alone would hardly move; with fp32 masters they arrive where fp32 does."""
    many = {"learning_rate": 1e-5, "epochs": 40, "schedule": "constant", "warmup": 0.0}
    start = weights(load_model(llama, dtype="float32"))
    exact, _ = supervised(llama, tmp_path / "fp32", **many)
    rounded, _ = supervised(llama, tmp_path / "bf16", dtype="bfloat16", **many)
    name = "model.layers.0.mlp.up_proj.weight"
    moved = (weights(exact)[name] - start[name]).flatten()
    arrived = (weights(rounded)[name].float() - start[name]).flatten()
    # 120 steps of 1e-5 are 1.2e-3 at most; a bf16 weight of 0.3 has steps of 2e-3, so most round back or up by one.
    assert moved.abs().max() <= 1.3e-3
    assert torch.corrcoef(torch.stack([moved, arrived]))[0, 1] > 0.3


def test_ctx_and_empty_data_are_refused(llama: Path, tmp_path: Path) -> None:
    lm = load_model(llama, dtype="float32")
    long = Rendered(tuple(range(7, 7 + 257)), (0.0,) * 256 + (1.0,), ())
    with pytest.raises(TrainingError, match="row 0 has 257 tokens and the context is 256"):
        train_supervised(lm, [long], SFT(), Optimization(), seed=0, folder=tmp_path)
    with pytest.raises(TrainingError, match="no rows"):
        train_supervised(lm, [], SFT(), Optimization(), seed=0, folder=tmp_path)


def test_a_loss_that_is_not_finite_stops_training(llama: Path, tmp_path: Path) -> None:
    lm = load_model(llama, dtype="float32")
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[:] = float("nan")
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        train_supervised(lm, rows(lm), SFT(), Optimization(), seed=0, folder=tmp_path)


def test_a_gradient_that_is_not_finite_stops_training_before_a_weight_changes(llama: Path, tmp_path: Path) -> None:
    lm = load_model(llama, dtype="float32")
    lm.model.model.norm.weight.register_hook(lambda grad: grad * float("inf"))
    before = weights(lm)
    with pytest.raises(TrainingError, match="the gradient's norm is (inf|nan) at step 0"):
        train_supervised(lm, rows(lm), SFT(), Optimization(), seed=0, folder=tmp_path)
    assert same(before, weights(lm))


def test_checkpoints_take_a_twentieth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = 0.0, []

    def write(_: Keeper) -> dict[str, object]:
        nonlocal now
        written.append(now)
        now += 30.0  # so long a checkpoint takes
        return {}

    monkeypatch.setattr(state.time, "monotonic", lambda: now)
    optimizer = SimpleNamespace(state=lambda: write(keeper))
    keeper = Keeper(tmp_path, optimizer, 60.0)  # type: ignore[arg-type]
    for _ in range(150):
        now += 10.0  # a step
        keeper.save_if_due()
    # The first after 60 seconds; it is done at 90, and the next is due 20 x 30 seconds later.
    assert written == [60.0, 690.0, 1320.0]


def test_utilisation_is_operations_over_what_products_alone_would_do(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "matmul_rate", lambda kind: 1e9)
    lm, result = supervised(llama, tmp_path / "out")
    # Two layers of 32 x (32 + 16 + 16 + 32) + 3 x 32 x 64 + 2 x 32, the last norm 32, and the tied head 320 x 32
    numbers = 2 * (32 * 96 + 3 * 32 * 64 + 64) + 32 + len(lm.tokenizer) * 32
    lookup = 0 if lm.config.tie_word_embeddings else len(lm.tokenizer) * 32
    assert lm.operations == 6 * numbers and lm.parameters == numbers + lookup
    row = json.loads((tmp_path / "out" / METRICS).read_text().splitlines()[-1])
    assert row["utilisation"] == pytest.approx(6 * numbers * row["tokens"] / row["seconds"] / 1e9)
    assert 0 < result.utilisation < 1e3


@pytest.mark.parametrize(
    ("train", "module", "most", "later"),
    [(supervised, supervised_module, 60, False), (align, answers, 100, True)],
    ids=["sft", "dpo"],
)
def test_when_memory_runs_out_micro_batches_are_halved_and_the_result_is_the_same(
    train: Callable[..., tuple[LanguageModel, TrainResult]], module: ModuleType, most: int, later: bool, llama: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole, _ = train(llama, tmp_path / "whole")
    real = module.token_logprobs
    seen: list[int] = []

    def small_machine(model: object, batch: Batch) -> Tensor:
        if torch.is_grad_enabled():  # not while a reference is computed, whose passes keep less
            seen.append(batch.tokens)
            if batch.tokens > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, batch)

    monkeypatch.setattr(module, "token_logprobs", small_machine)
    tight, result = train(llama, tmp_path / "tight")
    assert_losses_agree(tmp_path / "tight", tmp_path / "whole")
    assert apart(weights(whole), weights(tight)) < 1e-3
    assert max(seen) > most and result.steps > 0
    assert "out of memory at" in capsys.readouterr().err
    too_large = [place for place, tokens in enumerate(seen) if tokens > most]
    found_at_once = list(range(len(too_large)))  # before the first step
    assert (too_large != found_at_once) == later


def test_a_row_that_no_memory_holds_is_a_clear_error(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from burnish.training import supervised as module

    def full(model: object, batch: Batch) -> Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(module, "token_logprobs", full)
    with pytest.raises(TrainingError, match="memory does not suffice for a micro-batch of"):
        supervised(llama, tmp_path / "full")


def test_what_cannot_be_cut_is_not_tried_again(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs of a step must be seen at once."""
    asked = []

    def full(model: object, batch: Batch) -> Tensor:
        asked.append(len(batch.ids))
        raise torch.OutOfMemoryError("CUDA out of memory")

    lm = load_model(llama, dtype="float32")
    settings = Optimization(batch_size=4)
    reference = pair_reference(lm, pairs(lm), tmp_path, settings, 0)
    monkeypatch.setattr("burnish.training.preference.refuse_other_start", lambda *_: None)
    monkeypatch.setattr(answers, "token_logprobs", full)
    with pytest.raises(TrainingError, match="memory does not suffice"):
        train_preference(lm, pairs(lm), reference, DPO(variant="aot"), settings, seed=0, folder=tmp_path)
    assert len(asked) == 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_is_as_it_was_when_training_fails(
    checkpointing: bool, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("burnish.training.supervised.token_logprobs", lambda *_: torch.tensor([torch.nan] * 400))
    lm = load_model(llama, dtype="float32")
    with pytest.raises((TrainingError, RuntimeError)):
        train_supervised(lm, rows(lm), SFT(), Optimization(checkpointing=checkpointing), seed=0, folder=tmp_path)
    assert not any(module.training for module in lm.model.modules())
    assert not lm.model.is_gradient_checkpointing


def test_no_memory_for_the_optimizer_is_known_before_the_first_step(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr("burnish.training.masters.Masters.__init__", full)
    with pytest.raises(TrainingError, match="optimiser's masters and moments"):
        supervised(llama, tmp_path / "full")


def test_the_rehearsal_leaves_nothing_behind(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = supervised(llama, tmp_path / "with")
    monkeypatch.setattr(_Run, "rehearse", lambda self, rows: None)
    found, _ = supervised(llama, tmp_path / "without")
    assert same(weights(expected), weights(found))


def test_compiled_layers_change_only_rounding(llama: Path, tmp_path: Path) -> None:
    plain, _ = supervised(llama, tmp_path / "plain")
    compiled, _ = supervised(llama, tmp_path / "compiled", compile=True)
    assert apart(weights(plain), weights(compiled)) < 1e-3
    assert all(layer._compiled_call_impl is None for layer in compiled.model.model.layers)


@pytest.mark.parametrize("lora", [Lora(rank=4, dora=True), Lora(rank=4, rslora=True), Lora(rank=4, init="pissa"),
                                  Lora(rank=4, init="orthogonal")])  # fmt: skip
def test_every_kind_of_adapter_learns_and_is_read_by_peft(lora: Lora, llama: Path, tmp_path: Path) -> None:
    lm, result = supervised(llama, tmp_path / "out", lora=lora)
    assert result.loss_last < result.loss_first
    lm.save(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        before = base(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(base, tmp_path / "adapter")(input_ids=ids).logits
        assert torch.allclose(theirs, lm.model(input_ids=ids).logits, atol=1e-4)
    assert not torch.allclose(theirs, before, atol=0.1)


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe"])
def test_on_four_bits_the_adapter_alone_learns_and_a_killed_run_resumes(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny.tiny_model(kind, tmp_path / "model", hidden_size=64)
    lora = Lora(rank=4, quantize=True)

    def train(run: RunOptions) -> LanguageModel:
        lm, result = supervised(folder, run["folder"], "bfloat16", lora, run)
        assert result.loss_last < result.loss_first
        return lm

    before, after = weights(start(folder, "bfloat16", lora)), weights(train(options(tmp_path / "out")))
    assert torch.uint8 in {value.dtype for value in after.values()}
    learned = {name for name in after if not torch.equal(before[name], after[name])}
    assert learned == {name for name in after if "lora_" in name}
    assert_resumes_to_the_same_bits(train, tmp_path)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_checkpointed_layers_are_computed_again(kind: str, llama: Path, tmp_path: Path) -> None:
    def passes(checkpointing: bool) -> int:
        """How often the first layer attends."""
        lm, out = load_model(llama, dtype="float32"), tmp_path / f"{kind}-{checkpointing}"
        out.mkdir()
        seen: list[None] = []
        settings = Optimization(batch_size=8, checkpointing=checkpointing)
        reference = pair_reference(lm, pairs(lm), out, settings, 0)
        lm.model.model.layers[0].self_attn.register_forward_hook(lambda *_: seen.append(None))
        if kind == "sft":
            train_supervised(lm, rows(lm, 8), SFT(), settings, seed=0, folder=out)
        else:
            train_preference(lm, pairs(lm), reference, DPO(), settings, seed=0, folder=out)
        return len(seen)

    # One pass of the rehearsal and one of the only step, each made again; DPO looks at its start once more before.
    start = 1 if kind == "dpo" else 0
    assert passes(False) == 2 + start and passes(True) == 4 + start


@pytest.mark.parametrize("lora", [None, Lora(rank=4)])
def test_checkpointed_activations_change_only_rounding(folder: Path, lora: Lora | None, tmp_path: Path) -> None:
    found = []
    for name in ("plain", "less"):
        (tmp_path / name).mkdir()
        lm = load_model(folder, dtype="float32")
        lm = attach(lm, lora, 0) if lora else lm
        rows = [lm.chat.render((Message("user", text), Message("assistant", f"{text} {text}"))) for text in TEXTS]
        settings = Optimization(learning_rate=1e-2, batch_size=6, epochs=6, checkpointing=name == "less")
        train_supervised(lm, rows, SFT(), settings, seed=0, folder=tmp_path / name)
        found.append(losses(tmp_path / name))
    assert found[0] == pytest.approx(found[1], abs=1e-5) and found[0][-1] < found[0][0]


def test_a_family_that_cannot_compute_layers_again_says_so(tmp_path: Path) -> None:
    config = AutoConfig.for_model("openai-gpt", n_embd=32, n_layer=2, n_head=4, vocab_size=320, n_positions=128)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tiny.tiny_tokenizer("llama").save_pretrained(tmp_path / "model")
    with pytest.raises(TrainingError, match="does not support activation checkpointing"):
        supervised(tmp_path / "model", tmp_path / "out", checkpointing=True)
