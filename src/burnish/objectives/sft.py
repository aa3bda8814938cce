"""Supervised fine-tuning: the negative log-likelihood of the learned tokens.

`dynamic` scales each token's loss by its own probability, without gradient (DFT, arXiv:2508.05629 equation 9): tokens
that the model finds unlikely no longer dominate the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from burnish.config import Config
from burnish.objectives.parts import LossOutput

if TYPE_CHECKING:
    from torch import Tensor


class SFT(Config):
    """Mean negative log-likelihood over all learned tokens of an optimiser step."""

    unit: ClassVar[str] = "token"

    dynamic: bool = False
    """Weigh each token by its probability (dynamic fine-tuning)."""

    def loss(self, logprobs: Tensor, weights: Tensor) -> LossOutput:
        """Sum of -weight x log p, or of -weight x p x log p with the p held fixed.

        Args:
            logprobs: of the learned tokens, nats (N,). weights: how much each counts (N,).
        """
        if self.dynamic:
            weights = weights * logprobs.detach().exp()
        return LossOutput(-(logprobs * weights).sum())
