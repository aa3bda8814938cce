"""What several objectives share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossOutput:
    """A loss summed over its units (tokens or pairs), so that the caller divides by the count of a whole step."""

    total: Tensor
    metrics: dict[str, float] = field(default_factory=dict)
    """Sums over the same units."""


@dataclass(frozen=True)
class PairLogprobs:
    """Log-probabilities of answers, summed over their tokens, nats: (B,) each."""

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor | None = None
    """How many tokens the chosen answers have, for losses that weigh them alike."""
