"""Alignment from single answers that were found good or bad, with no pairs.

With r = log policy - log reference of an answer: KTO (arXiv:2402.01306 equation 8) holds r against z, the mean r of a
step's prompts with answers that belong to other prompts, an estimate of how far the policy has moved; it is never below
zero and carries no gradient. APO-zero (arXiv:2408.06266 equation 7) holds each answer against zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from burnish.config import Config
from burnish.objectives.parts import LossOutput

if TYPE_CHECKING:
    from torch import Tensor

WORTH: dict[str, Callable[[Tensor, float], Tensor]] = {
    "kto": lambda ratio, moved: ratio - moved,
    "apo_zero": lambda ratio, moved: ratio,
}
"""What is to rise for good answers and to fall for bad ones."""


class KTO(Config):
    """Make good answers likelier and bad ones less likely, measured against the reference model."""

    unit: ClassVar[str] = "answer"

    variant: Literal["kto", "apo_zero"] = "kto"
    """kto measures against how far the policy has moved; apo_zero against the reference alone, in half the passes."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly to stay near the reference (1/nats)."""
    desirable: float = Field(default=1.0, gt=0)
    """Weight of good answers. Where there are fewer of them, choose it so that weight x count is 1 to 4/3 of the bad
    ones'."""
    undesirable: float = Field(default=1.0, gt=0)
    """Weight of bad answers."""

    @property
    def needs_kl(self) -> bool:
        """Whether `loss` looks at how far the policy has moved."""
        return self.variant == "kto"

    def loss(self, ratios: Tensor, good: Tensor, moved: float) -> LossOutput:
        """Sum over B answers of weight x (1 - sigmoid(beta x worth)), the worth of bad answers negated.

        Args:
            ratios: log policy - log reference of each answer, nats (B,). good: which answers are good, bool (B,).
            moved: mean log-ratio of answers that belong to other prompts, nats, not below zero.
        """
        import torch

        sign = good.to(ratios) * 2 - 1
        worth = sign * WORTH[self.variant](ratios, moved)
        weights = torch.where(good, self.desirable, self.undesirable).to(ratios)
        kept = ratios.detach()
        metrics = {"good_gain": float(kept[good].sum()), "bad_gain": float(kept[~good].sum()),
                   "good_share": float(good.sum())}  # fmt: skip
        return LossOutput((weights * (1 - torch.sigmoid(self.beta * worth))).sum(), metrics)
