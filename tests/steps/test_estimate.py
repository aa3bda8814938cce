"""Predicted needs, by hand."""

from __future__ import annotations

import pytest

from burnish import hardware
from burnish.models.locate import Size
from burnish.steps import estimate
from burnish.types import Example, Message, PreferencePair

SIZE = Size(parameters=1_000_000, layers=10, bytes=2_000_000)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "matmul_rate", lambda: 1e9 / estimate.SHARE)


def test_training_takes_six_operations_a_parameter_and_token() -> None:
    # 6 x 1e6 x 1000 operations at 1e9 a second
    assert estimate.training_seconds(SIZE, 1000) == pytest.approx(6.0)
    assert estimate.training_seconds(None, 1000) is None


def test_answers_take_a_prefill_and_a_pass_for_each_token() -> None:
    # a token takes 2e6 / 1e9 = 2 ms. 4 answers behind 50 tokens: 0.4 s. All four fit: 10 passes of 3 ms + 4 x 2 ms.
    found = estimate.answering_seconds(SIZE, answers=4, prompt=50, written=10, batch_tokens=1000)
    assert found == pytest.approx(0.4 + 10 * (0.003 + 0.008))
    # With room for two at a time the passes double and each has half the rows.
    halved = estimate.answering_seconds(SIZE, answers=4, prompt=50, written=10, batch_tokens=120)
    assert halved == pytest.approx(0.4 + 2 * 10 * (0.003 + 0.004))


def test_memory_and_disk() -> None:
    assert estimate.memory(Size(1, 1, 2**30), copies=2) == pytest.approx(2 + estimate.TORCH_GIB)
    # 1 GiB of weights, as much of gradients and of the rest of the masters, 2 of moments: 5.
    # 1024 tokens x 4 layers x 48 bytes x 512 numbers: 0.09375 GiB
    size = Size(2**29, 4, 2**30, width=512)
    rest = 0.09375 + estimate.TORCH_GIB
    assert estimate.training_memory(size, "bfloat16", 4, 1024) == pytest.approx(5 + rest)
    assert estimate.training_memory(size, "bfloat16", None, 1024) == pytest.approx(2 + rest)
    assert estimate.training_memory(size, "bfloat16", None, 1024, True) == pytest.approx(2 + rest - 0.09375 / 2)
    # in fp32 2 GiB of weights, 2 of gradients, 4 of moments, and tokens keep twice as much
    assert estimate.training_memory(size, "float32", 8, 1024) == pytest.approx(8 + 2 * 0.09375 + estimate.TORCH_GIB)
    # 0.5 G parameters of 0.55 bytes, twice
    assert estimate.training_memory(size, "nf4", None, 1024) == pytest.approx(0.55 + rest)
    # the model 1 GiB, its best weights 1 more, two checkpoints of 2 + 2 + 4 bytes a parameter: 8
    assert estimate.training_disk(size, "bfloat16", 4, best=False) == pytest.approx(9 * 1024)
    assert estimate.training_disk(size, "bfloat16", 4, best=True) == pytest.approx(10 * 1024)
    assert estimate.training_disk(size, "bfloat16", None, best=True) == pytest.approx(1024 / 20)
    assert estimate.disk(Size(1, 1, 2**30), share=0.5) == 512
    assert estimate.memory(None) is None and estimate.disk(None) is None
    assert estimate.training_memory(None, "nf4", None, 1) is None
    assert estimate.training_disk(None, "nf4", None, best=False) is None


def test_tokens_are_guessed_from_characters() -> None:
    example = Example("e", (Message("user", "x" * 35), Message("assistant", "x" * 35)))
    pair = PreferencePair("p", (Message("user", "x" * 35),), "x" * 35, "x" * 70)
    assert estimate.tokens_in(example) == pytest.approx(20)
    assert estimate.tokens_in(pair) == pytest.approx(2 * 10 + 10 + 20)  # its prompt is read with both answers
    assert estimate.mean_tokens([example, pair]) == pytest.approx(35)
    assert estimate.mean_tokens([]) == 256
