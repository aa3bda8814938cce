"""Preference losses that need no reference: the policy's own likelihoods are the scores.

SimPO, arXiv:2405.14734 equation 6. CPO, arXiv:2401.08417 equation 5. ORPO, arXiv:2403.07691 equations 4 to 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from burnish.objectives.parts import LossOutput, PairLogprobs, PairObjective, pair_metrics

if TYPE_CHECKING:
    from torch import Tensor


class _ReferenceFree(PairObjective):
    needs_reference: ClassVar[bool] = False

    def _done(self, losses: Tensor, chosen: Tensor, rejected: Tensor) -> LossOutput:
        return LossOutput(losses.sum(), pair_metrics(chosen, rejected))


class SimPO(_ReferenceFree):
    """Raise the chosen answer's mean log-probability of a token over the rejected one's, by a margin."""

    beta: float = Field(default=2.0, gt=0)
    """Scale of the difference (1/nats); 2 to 10 is usual."""
    gamma: float = Field(default=0.5, ge=0)
    """Margin that the scaled difference is to exceed."""
    sft: float = Field(default=0.0, ge=0)
    """Weight of the chosen answer's negative log-likelihood per token."""

    def loss(self, policy: PairLogprobs, reference: PairLogprobs) -> LossOutput:
        """Sum over the pairs of -log sigmoid(beta (chosen - rejected) - gamma), scores a token."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = policy.chosen / policy.chosen_tokens, policy.rejected / policy.rejected_tokens
        return self._done(
            -logsigmoid(self.beta * (chosen - rejected) - self.gamma) - self.sft * chosen, chosen, rejected
        )


class CPO(_ReferenceFree):
    """DPO with a uniform reference, held by the chosen answer's likelihood."""

    beta: float = Field(default=0.1, gt=0)
    """Scale of the difference of log-probabilities (1/nats)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Chance that a preference label is wrong."""
    sft: float = Field(default=1.0, ge=0)
    """Weight of the chosen answer's negative log-likelihood per token."""

    def loss(self, policy: PairLogprobs, reference: PairLogprobs) -> LossOutput:
        """Sum over the pairs of -log sigmoid(beta (chosen - rejected)), smoothed, and the likelihood term."""
        from torch.nn.functional import logsigmoid

        x = self.beta * (policy.chosen - policy.rejected)
        losses = -(1 - self.label_smoothing) * logsigmoid(x) - self.label_smoothing * logsigmoid(-x)
        return self._done(losses - self.sft * policy.chosen / policy.chosen_tokens, policy.chosen, policy.rejected)


class ORPO(_ReferenceFree):
    """Supervised fine-tuning on the chosen answers with a penalty on the odds of the rejected ones."""

    beta: float = Field(default=0.1, gt=0)
    """Weight of the odds-ratio term; lambda in the paper."""

    def loss(self, policy: PairLogprobs, reference: PairLogprobs) -> LossOutput:
        """Sum over the pairs of the chosen answer's loss a token and -beta log sigmoid(log odds ratio).

        An answer's probability is the geometric mean over its tokens; odds are p / (1 - p).
        """
        import torch
        from torch.nn.functional import logsigmoid

        chosen, rejected = policy.chosen / policy.chosen_tokens, policy.rejected / policy.rejected_tokens
        odds = [score - torch.log(-torch.expm1(score.clamp(max=-1e-6))) for score in (chosen, rejected)]
        return self._done(-chosen - self.beta * logsigmoid(odds[0] - odds[1]), chosen, rejected)
