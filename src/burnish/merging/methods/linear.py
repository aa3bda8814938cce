"""Weighted mean of parameters ("model soup"). Source: arXiv:2203.05482."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from burnish.config import Config

if TYPE_CHECKING:
    from torch import Tensor


class Linear(Config):
    """Sum of weight x parameter over the models."""

    weights: list[float] | None = Field(default=None, min_length=1)
    """One weight for each model; equal ones when left out."""
    normalize: bool = True
    """Divide the weights by their sum."""

    def problem(self, models: int) -> str | None:
        """What is wrong with these settings for this many models, if anything."""
        if self.weights is not None and len(self.weights) != models:
            return f"{len(self.weights)} weights for {models} models"
        if self.weights is not None and self.normalize and abs(sum(self.weights)) < 1e-8:
            return "the weights sum to zero, so they cannot be normalised"
        return None

    def merge(self, tensors: list[Tensor], base: Tensor | None) -> Tensor:
        """Tensors of one shape in fp32; returns fp32. A single pass, so [1, 0] gives the first model's bits."""
        weights = self.weights or [1.0] * len(tensors)
        total = sum(weights) if self.normalize else 1.0
        shares = [weight / total for weight in weights]
        result = tensors[0] * shares[0]
        for tensor, share in zip(tensors[1:], shares[1:], strict=True):
            result.add_(tensor, alpha=share)
        return result
