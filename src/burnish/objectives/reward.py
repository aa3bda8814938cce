"""Losses of models that give a score instead of text.

Bradley-Terry: the better of two answers has the higher score with probability sigmoid(difference) (arXiv:2203.02155
equation 1); a margin asks for a larger difference where the better one is much better (arXiv:2307.09288 equation 2).
Process rewards: each step's score is the log-odds that it is right (arXiv:2305.20050; labels between 0 and 1 as in
arXiv:2312.08935).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from burnish.config import Config
from burnish.objectives.parts import LossOutput

if TYPE_CHECKING:
    from torch import Tensor


class BradleyTerry(Config):
    """The chosen answer's score above the rejected one's."""

    unit: ClassVar[str] = "comparison"

    margins: bool = False
    """Ask for a difference of at least the pair's margin (score of chosen minus score of rejected); 0 where a pair has
    none."""
    margin_scale: float = Field(default=1.0, gt=0)
    """What a margin is multiplied by, to bring the scorer's unit to nats."""
    centre: float = Field(default=0.0, ge=0)
    """Weight of the squared sum of both scores, which keeps scores of different prompts around zero (arXiv:2312.09244);
    0.01 there."""

    @model_validator(mode="after")
    def _a_scale_needs_margins(self) -> BradleyTerry:
        if self.margin_scale != 1 and not self.margins:
            raise ValueError("margin_scale is for `margins: true`")
        return self

    def loss(self, chosen: Tensor, rejected: Tensor, margins: Tensor) -> LossOutput:
        """Sum over B pairs of -log sigmoid(chosen - rejected - margin), all (B,)."""
        from torch.nn.functional import logsigmoid

        asked = self.margin_scale * margins if self.margins else 0.0
        losses = -logsigmoid(chosen - rejected - asked) + self.centre * (chosen + rejected) ** 2
        difference = (chosen - rejected).detach()
        metrics = {"accuracy": float((difference > 0).sum()), "difference": float(difference.sum()),
                   "score": float((chosen + rejected).detach().sum() / 2)}  # fmt: skip
        return LossOutput(losses.sum(), metrics)


class Steps(Config):
    """Each step's score as the log-odds that it is right."""

    unit: ClassVar[str] = "step"

    def loss(self, scores: Tensor, labels: Tensor) -> LossOutput:
        """Sum of the cross-entropies of N steps: scores in log-odds, labels from 0 to 1, both (N,)."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        total = binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="sum")
        return LossOutput(total, {"accuracy": float(((scores > 0) == (labels > 0.5)).sum())})
