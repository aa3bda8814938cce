"""Distillation: bring the student's next-token distribution to the teacher's.

Divergences of arXiv:2306.13649: forward KL(teacher | student) covers all that the teacher may say, reverse KL(student |
teacher) keeps to what it most likely says, and the generalised Jensen-Shannon divergence (equation 1) lies between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.config import Config

if TYPE_CHECKING:
    from torch import Tensor


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p | q) in nats (N,) of distributions given by their logarithms (N, V)."""
    return (p.exp() * (p - q)).sum(-1)


def _js(teacher: Tensor, student: Tensor, mix: float) -> Tensor:
    import torch

    middle = torch.logaddexp(teacher + math.log(mix), student + math.log1p(-mix))
    return mix * _kl(teacher, middle) + (1 - mix) * _kl(student, middle)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "forward_kl": lambda teacher, student, mix: _kl(teacher, student),
    "reverse_kl": lambda teacher, student, mix: _kl(student, teacher),
    "js": _js,
}
"""Divergence (N,) of the logarithms of both distributions (N, V)."""


class Distill(Config):
    """Mean divergence from the teacher over all learned tokens of an optimiser step."""

    unit: ClassVar[str] = "distribution"

    divergence: Literal["forward_kl", "reverse_kl", "js"] = "forward_kl"
    """How two distributions are compared."""
    mix: float = Field(default=0.5, gt=0, lt=1)
    """The teacher's share in the middle of the Jensen-Shannon divergence."""
    temperature: float = Field(default=1.0, gt=0)
    """Both distributions are flattened by it, and the loss multiplied by its square, which keeps the size of gradients
    (arXiv:1503.02531)."""
    sft: float = Field(default=0.0, ge=0, le=1)
    """Share of the negative log-likelihood of the data's own tokens in the loss."""

    @model_validator(mode="after")
    def _a_mix_is_of_jensen_and_shannon(self) -> Distill:
        if self.mix != type(self).model_fields["mix"].default and self.divergence != "js":
            raise ValueError(f"mix is the js divergence's, and the divergence is {self.divergence}")
        return self

    def losses(self, student: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
        """Loss of each token, nats (N,), from logits (N, V) and the data's tokens (N,)."""
        hot = self.temperature
        logs = [logits.div(hot).log_softmax(-1) for logits in (teacher, student)]
        found = hot**2 * DIVERGENCES[self.divergence](logs[0], logs[1], self.mix)
        if self.sft:
            likely = student.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
            found = (1 - self.sft) * found - self.sft * likely
        return found
