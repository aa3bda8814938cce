"""How far a folded model is from the adapter it was made of, measured on the files that were written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import chunk, head_of, hidden_states, logits_of

WRONG = 0.05
"""Mean divergence (nats a token) that no rounding explains."""
QUESTIONS = ("What is the capital of France?", "Write one sentence about the sea.", "What is 17 plus 25?",
             "Name three colours.", "Why does ice float?", "Say hello in two languages.", "How do I boil an egg?",
             "Continue: once upon a time")  # fmt: skip
"""What the unfolded model is asked where no rows are given; its own answers are compared."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Next-token distributions of a folded model against the model with its adapter beside it."""

    tokens: int
    kl: float
    """Mean KL(unfolded | folded), nats a token."""
    kl_most: float
    top1: float
    """Share of tokens at which both find the same one most likely."""
    tied: bool
    """Whether embeddings and head are one matrix in the folded model."""
    dtype: str

    @property
    def holds(self) -> bool:
        return self.kl <= WRONG


@torch.inference_mode()  # type: ignore[untyped-decorator]
def certify(unfolded: LanguageModel, folded: LanguageModel, rows: Sequence[Rendered]) -> Certificate:
    """Compare two models at the learned tokens of rows."""
    divergences, same = [], []
    for row in rows:
        for ours, theirs in _logits(unfolded, folded, row):
            p, q = ours.log_softmax(-1), theirs.log_softmax(-1)
            divergences.append((p.exp() * (p - q)).sum(-1))
            same.append(ours.argmax(-1) == theirs.argmax(-1))
    found, agreed = torch.cat(divergences), torch.cat(same)
    tied = bool(getattr(folded.config, "tie_word_embeddings", False))
    return Certificate(len(found), float(found.mean()), float(found.max()), float(agreed.float().mean()), tied,
                       folded.dtype)  # fmt: skip


def _logits(one: LanguageModel, other: LanguageModel, row: Rendered) -> Iterator[tuple[Tensor, Tensor]]:
    """Both models' logits where a row's learned tokens are predicted, a part at a time."""
    batch = lay_out([row], one.device, trees=False)
    heads = [head_of(lm.model) for lm in (one, other)]
    states = [hidden_states(lm.model, batch).index_select(0, batch.sources) for lm in (one, other)]
    rows = max(1, chunk(heads[0].weight) // heads[0].weight.shape[0])
    for parts in zip(*(state.split(rows) for state in states), strict=True):
        ours, theirs = (logits_of(part, head) for part, head in zip(parts, heads, strict=True))
        yield ours, theirs
