"""Direct preference optimization. Source: arXiv:2305.18290 equation 7.

Differs: `label_smoothing` gives conservative DPO (the chance that a label is wrong), `sft` adds the chosen answer's own
likelihood as in arXiv:2404.19733 equation 1; both 0 is the paper's loss.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from burnish.config import Config
from burnish.objectives.parts import LossOutput, PairLogprobs


class DPO(Config):
    """Raise the chosen answer over the rejected one, measured against the reference model."""

    unit: ClassVar[str] = "pair"

    beta: float = Field(default=0.1, gt=0)
    """How strongly to stay near the reference (1/nats). Lower drifts further; 0.01 to 0.5 is usual."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Chance that a preference label is wrong."""
    sft: float = Field(default=0.0, ge=0)
    """Weight of the chosen answer's negative log-likelihood per token (nats). Keeps chosen answers likely, where DPO
    alone may lower both."""

    def loss(self, policy: PairLogprobs, reference: PairLogprobs) -> LossOutput:
        """Sum over the pairs of -(1 - s) log sigmoid(beta m) - s log sigmoid(-beta m), with m the margin of log-ratios,
        and of `sft` times the chosen answer's negative log-likelihood a token.

        `chosen_gain` and `rejected_gain` are the log-ratios themselves: when both fall, the loss improves while the
        chosen answer becomes less likely.
        """
        from torch.nn.functional import logsigmoid

        chosen = policy.chosen - reference.chosen  # (B,)
        rejected = policy.rejected - reference.rejected  # (B,)
        margin = chosen - rejected
        agree, flip = logsigmoid(self.beta * margin), logsigmoid(-self.beta * margin)
        loss = -(1 - self.label_smoothing) * agree - self.label_smoothing * flip
        if self.sft:
            assert policy.chosen_tokens is not None
            loss = loss - self.sft * policy.chosen / policy.chosen_tokens
        metrics = {
            "margin": float(margin.detach().sum()),
            "accuracy": float((margin.detach() > 0).sum()),
            "chosen_gain": float(chosen.detach().sum()),
            "rejected_gain": float(rejected.detach().sum()),
        }
        return LossOutput(loss.sum(), metrics)
