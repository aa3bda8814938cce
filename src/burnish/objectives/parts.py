"""What several objectives share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from burnish.config import Config

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
    """Log-probabilities of answers, summed over their tokens, nats; and how many tokens they have. (B,) each."""

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor


def pair_metrics(chosen: Tensor, rejected: Tensor) -> dict[str, float]:
    """Sums of what is told of a pair objective while it runs, from each answer's score (B,) in nats.

    Against a reference the scores are log-ratios: when both gains fall, the loss improves while the chosen answer
    becomes less likely.
    """
    chosen, rejected = chosen.detach(), rejected.detach()
    margin = chosen - rejected
    return {
        "margin": float(margin.sum()),
        "accuracy": float((margin > 0).sum()),
        "chosen_gain": float(chosen.sum()),
        "rejected_gain": float(rejected.sum()),
    }


class PairObjective(Config):
    """A loss of preference pairs. A new one needs only `loss`."""

    unit: ClassVar[str] = "pair"
    needs_reference: ClassVar[bool] = True
    whole_step: ClassVar[bool] = False
    """Whether all pairs of a step must be seen at once, in one micro-batch."""
    tail: float = Field(default=1.0, gt=0, le=1)
    """Weight of the tokens by which the longer answer exceeds the shorter."""

    def loss(self, policy: PairLogprobs, reference: PairLogprobs) -> LossOutput:
        """Sum of the losses of B pairs. Without a reference, all of its values are zero."""
        raise NotImplementedError
