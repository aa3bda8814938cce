"""Supervised fine-tuning: the negative log-likelihood of the learned tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from burnish.config import Config
from burnish.objectives.parts import LossOutput

if TYPE_CHECKING:
    from torch import Tensor


class SFT(Config):
    """Mean negative log-likelihood over all learned tokens of an optimiser step."""

    unit: ClassVar[str] = "token"

    def loss(self, logprobs: Tensor, weights: Tensor) -> LossOutput:
        """Sum of -weight x log p.

        Args:
            logprobs: of the learned tokens, nats (N,). weights: how much each counts (N,).
        """
        return LossOutput(-(logprobs * weights).sum())
