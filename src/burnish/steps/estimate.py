"""What a step will need, from the sizes of its model and rows and from what this machine does in a second.

Times are right within a factor of two or three, which tells minutes from hours. Once a store has seen a step with a
model of the same size, its own measured speed is used instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from burnish import hardware
from burnish.models.locate import size_of
from burnish.types import Example, PreferencePair

if TYPE_CHECKING:
    from burnish.models.locate import Size

SHARE = 0.15
"""Share of the machine's rate of matrix products that a model reaches; small ones with short rows reach less."""
LAYER_SECONDS = 3e-4
"""Time of one layer for one token, however few rows are in the batch: the launch of some thirty small operations."""
KEPT = 48
"""Bytes that training needs of a token for each number of a layer's hidden state, measured on SmolLM2-135M's shape in
bfloat16: what is kept for the backward pass takes twenty, the rest is what comes and goes between."""
KEPT_LESS = 24
"""The same with activation checkpointing: 21 with an adapter on that model, more where all of it learns."""
BYTES = {"float32": 4.0, "bfloat16": 2.0, "nf4": 0.55}
"""Of a weight, by number format; in four bits with its share of the constants."""
CHARACTERS = 3.5
"""Characters in a token of usual text."""
TORCH_GIB = 0.4
"""The interpreter with torch loaded."""


def memory(size: Size | None, copies: float = 1.0, tokens: int = 0, each: float = 0.0) -> float | None:
    """GiB for a model's weights, `copies` times, and for so many tokens with `each` bytes a layer."""
    return None if size is None else (size.bytes * copies + tokens * size.layers * each) / 2**30 + TORCH_GIB


def training_memory(size: Size | None, kind: str, moments: int | None, micro_tokens: int, checkpointing: bool = False
                    ) -> float | None:  # fmt: skip
    """GiB while training: weights and what a forward pass keeps of every token for the backward pass.

    Args:
        kind: the weights' number format, `nf4` for four bits.
        moments: bytes a parameter of the optimiser's moments where all weights learn; gradients and the rest of the
            masters come to it. None for an adapter.
    """
    if size is None:
        return None
    wide = 2 if kind == "float32" else 1
    each = 2 * BYTES[kind] + (0.0 if moments is None else _state(kind, moments))
    kept = micro_tokens * size.layers * (KEPT_LESS if checkpointing else KEPT) * size.width * wide
    return (size.parameters * each + kept) / 2**30 + TORCH_GIB


def _state(kind: str, moments: int) -> float:
    """Bytes a parameter of the optimiser's: the rest of the masters, and its moments."""
    return moments + (2.0 if kind == "bfloat16" else 0.0)


def training_disk(size: Size | None, kind: str, moments: int | None, best: bool) -> float | None:
    """MiB that training takes on disk at most: the model, a checkpoint and the draft of the next one, and with `best`
    the best weights so far. An adapter (moments None) takes a twentieth of its model for all of it."""
    if size is None:
        return None
    if moments is None:
        return disk(size, share=0.05)
    checkpoint = BYTES[kind] + _state(kind, moments)
    return size.parameters * (BYTES[kind] * (2 if best else 1) + 2 * checkpoint) / 2**20


def disk(size: Size | None, share: float = 1.0) -> float | None:
    """MiB of a model, or of a share of it, on disk."""
    return None if size is None else size.bytes * share / 2**20


def tokens_in(row: Example | PreferencePair) -> float:
    """About how many tokens a row has; a pair's prompt counts for both of its answers."""
    if isinstance(row, Example):
        return sum(len(message.content) for message in row.messages) / CHARACTERS
    prompt = sum(len(message.content) for message in row.prompt)
    return (2 * prompt + len(row.chosen) + len(row.rejected)) / CHARACTERS


def mean_tokens(rows: Sequence[Example | PreferencePair]) -> float:
    """Mean tokens of the rows that are known so far; 256 when none is."""
    return sum(map(tokens_in, rows)) / len(rows) if rows else 256.0


def training_seconds(size: Size | None, tokens: float) -> float | None:
    """Time to train on so many tokens: six operations a parameter and token."""
    return None if size is None else 6 * size.parameters * tokens / (SHARE * hardware.matmul_rate())


def answering_seconds(size: Size | None, answers: float, prompt: float, written: float, batch_tokens: int
                      ) -> float | None:  # fmt: skip
    """Time to write answers of so many tokens behind prompts of so many, each prompt read once."""
    if size is None:
        return None
    rows = max(1.0, min(answers, batch_tokens / (prompt + written)))
    token = 2 * size.parameters / (SHARE * hardware.matmul_rate())
    return answers * prompt * token + answers / rows * written * (size.layers * LAYER_SECONDS + rows * token)


def work_done(count: float, model: str) -> dict[str, Any]:
    """What a summary says so that later plans know the speed: units of work, and the size of the model."""
    size = size_of(model)
    return {"work": count, "model_bytes": size.bytes if size else None}
