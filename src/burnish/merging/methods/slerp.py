"""Spherical linear interpolation. Source: K. Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985.

Each tensor is one vector. Where two are nearly parallel the arc is a line, and so is the formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from burnish.config import Config

if TYPE_CHECKING:
    from torch import Tensor

PARALLEL = 0.9995
"""Cosine above which the sine in the formula is too small to divide by."""


class Slerp(Config):
    """From the first model (t = 0) to the second (t = 1) along the arc between them."""

    t: float = Field(default=0.5, ge=0, le=1)
    """How far along the arc."""

    def problem(self, models: int) -> str | None:
        """What is wrong with these settings for this many models, if anything."""
        return None if models == 2 else f"slerp goes between two models, and {models} are given"

    def merge(self, tensors: list[Tensor], base: Tensor | None) -> Tensor:
        """sin((1-t)a)/sin(a) x + sin(ta)/sin(a) y, with a the angle between x and y. Two fp32 tensors; returns fp32."""
        import torch

        first, second = tensors
        norms = first.norm() * second.norm()
        cosine = (first * second).sum() / norms if norms > 0 else torch.tensor(1.0)
        if cosine.abs() > PARALLEL:
            return torch.lerp(first, second, self.t)
        angle = torch.arccos(cosine)
        return (torch.sin((1 - self.t) * angle) * first + torch.sin(self.t * angle) * second) / torch.sin(angle)
