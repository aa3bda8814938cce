"""How far a folded model is from the adapter it was made of, measured on the files that were written.

Of a model that gives text the next-token distributions are compared, of a reward model the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.load import LanguageModel
from burnish.models.logprobs import chunk, head_of, hidden_states, logits_of
from burnish.models.scores import token_scores

WRONG = 0.05
"""What no rounding explains: nats a token of mean divergence; mean difference of scores, as a share of their size."""
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

    def __str__(self) -> str:
        return f"KL {self.kl:.1e} nats a token, same first choice at {self.top1:.2%} of {self.tokens} tokens"


@dataclass(frozen=True, slots=True)
class ScoreCertificate:
    """Scores of a folded reward model against the model with its adapter beside it."""

    tokens: int
    difference: float
    """Mean of |unfolded - folded|."""
    difference_most: float
    size: float
    """Root mean square of the unfolded model's scores."""
    dtype: str

    @property
    def holds(self) -> bool:
        return self.difference <= WRONG * self.size

    def __str__(self) -> str:
        return f"scores of size {self.size:.2g} are {self.difference:.1e} apart on average at {self.tokens} tokens"


@torch.inference_mode()  # type: ignore[untyped-decorator]
def certify(unfolded: LanguageModel, folded: LanguageModel, rows: Sequence[Rendered]) -> Certificate | ScoreCertificate:
    """Compare two models at the learned tokens of rows."""
    return (_by_scores if unfolded.gives == "scores" else _by_logits)(unfolded, folded, rows)


def _by_scores(unfolded: LanguageModel, folded: LanguageModel, rows: Sequence[Rendered]) -> ScoreCertificate:
    batches = [lay_out([row], unfolded.device, trees=False) for row in rows]
    ours, theirs = (torch.cat([token_scores(lm.model, batch) for batch in batches]) for lm in (unfolded, folded))
    apart = (ours - theirs).abs()
    return ScoreCertificate(len(ours), float(apart.mean()), float(apart.max()), float(ours.square().mean().sqrt()),
                            folded.dtype)  # fmt: skip


def _by_logits(unfolded: LanguageModel, folded: LanguageModel, rows: Sequence[Rendered]) -> Certificate:
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
