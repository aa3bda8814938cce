"""Direct preference optimization and its family: losses of the log-ratios of a chosen and a rejected answer.

With r = log policy - log reference, summed over an answer's tokens, and m = r(chosen) - r(rejected), each loss is one
row of LOSSES. The f-divergence replaces r by f'(e^r) (arXiv:2309.16240), the tail weight discounts tokens beyond the
shorter answer's length (LD-DPO, arXiv:2409.06411), and a mix adds rows by weight (MPO, arXiv:2411.10442).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from burnish.objectives.parts import LossOutput, PairLogprobs, PairObjective, pair_metrics

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """What the rows see of B pairs, all (B,)."""

    chosen: Tensor
    """f'(ratio) of the chosen answers; their log-ratio under the reverse divergence."""
    rejected: Tensor
    policy: PairLogprobs
    reference: PairLogprobs
    beta: float
    smoothing: float
    tau: float

    @property
    def margin(self) -> Tensor:
        return self.chosen - self.rejected

    @property
    def mean_margin(self) -> Tensor:
        """Each answer's score a token."""
        return self.chosen / self.policy.chosen_tokens - self.rejected / self.policy.rejected_tokens


def _likely(x: Tensor) -> Tensor:
    from torch.nn.functional import logsigmoid

    return -logsigmoid(x)


def _smoothed(x: Tensor, smoothing: float) -> Tensor:
    return (1 - smoothing) * _likely(x) + smoothing * _likely(-x)


def _robust(s: Scores) -> Tensor:
    x = s.beta * s.margin
    return ((1 - s.smoothing) * _likely(x) - s.smoothing * _likely(-x)) / (1 - 2 * s.smoothing)


def _exo(s: Scores) -> Tensor:
    import torch

    x, epsilon = s.beta * s.margin, s.smoothing or 1e-3  # with no doubt at all the divergence would be infinite
    up, down = torch.sigmoid(x), torch.sigmoid(-x)
    return up * (-_likely(x) - math.log1p(-epsilon)) + down * (-_likely(-x) - math.log(epsilon))


def _nca(s: Scores) -> Tensor:
    up, down = s.beta * s.chosen, s.beta * s.rejected
    return _likely(up) + 0.5 * _likely(-up) + 0.5 * _likely(-down)


def _apo_zero(s: Scores) -> Tensor:
    import torch

    return 1 - torch.sigmoid(s.beta * s.chosen) + torch.sigmoid(s.beta * s.rejected)


def _apo_down(s: Scores) -> Tensor:
    import torch

    return torch.sigmoid(s.beta * s.chosen) + 1 - torch.sigmoid(s.beta * s.margin)


def _discopop(s: Scores) -> Tensor:
    import torch

    x = s.beta * s.margin
    blend = torch.sigmoid(x / s.tau)
    return (1 - blend) * _likely(x) + blend * torch.exp(-x)


def _aot(s: Scores) -> Tensor:
    ours, theirs = s.policy.chosen - s.policy.rejected, s.reference.chosen - s.reference.rejected
    return _smoothed(s.beta * (ours.sort().values - theirs.sort().values), s.smoothing)


LOSSES: dict[str, tuple[Callable[[Scores], Tensor], str]] = {
    "sigmoid": (lambda s: _smoothed(s.beta * s.margin, s.smoothing), "arXiv:2305.18290 equation 7; smoothed: cDPO"),
    "robust": (_robust, "arXiv:2403.00409 equation 12"),
    "hinge": (lambda s: (1 - s.beta * s.margin).relu(), "arXiv:2305.10425"),
    "ipo": (lambda s: (s.mean_margin - 1 / (2 * s.beta)) ** 2, "arXiv:2310.12036 equation 17, ratios a token"),
    "bco": (lambda s: _likely(s.beta * s.chosen) + _likely(-s.beta * s.rejected), "arXiv:2404.04656, paired, no shift"),
    "sppo": (lambda s: (s.chosen - 0.5 / s.beta) ** 2 + (s.rejected + 0.5 / s.beta) ** 2, "arXiv:2405.00675, hard"),
    "nca": (_nca, "arXiv:2402.05369"),
    "exo": (_exo, "arXiv:2402.00856 equation 16"),
    "apo_zero": (_apo_zero, "arXiv:2408.06266 equation 7"),
    "apo_down": (_apo_down, "arXiv:2408.06266 equation 8"),
    "aot": (_aot, "arXiv:2406.05882, paired"),
    "aot_unpaired": (lambda s: _smoothed(s.beta * (s.chosen.sort().values - s.rejected.sort().values), s.smoothing),
                     "arXiv:2406.05882, unpaired"),
    "discopop": (_discopop, "arXiv:2406.08414 equation 5"),
    "normalized": (lambda s: _smoothed(s.beta * s.mean_margin, s.smoothing), "arXiv:2411.15124, ratios a token"),
}  # fmt: skip
"""The loss of each of B pairs, and where it is from."""
WHOLE_STEP = {"aot", "aot_unpaired"}
"""Losses that sort a step's pairs, so that all of them must be seen at once."""
SMOOTHED = {"sigmoid", "robust", "exo", "normalized", *WHOLE_STEP}
"""Losses that know how sure a label is."""

Name = Literal["sigmoid", "robust", "hinge", "ipo", "bco", "sppo", "nca", "exo", "apo_zero", "apo_down", "aot",
               "aot_unpaired", "discopop", "normalized"]  # fmt: skip


class DPO(PairObjective):
    """Raise the chosen answer over the rejected one, measured against the reference model."""

    variant: Name | Annotated[dict[Name, Annotated[float, Field(gt=0)]], Field(min_length=1)] = "sigmoid"
    """Which loss of the family, or a mix by weight: {sigmoid: 0.8, bco: 0.2}."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly to stay near the reference (1/nats). Lower drifts further; 0.01 to 0.5 is usual."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Chance that a preference label is wrong; for sigmoid, robust, exo, aot, aot_unpaired and normalized."""
    sft: float = Field(default=0.0, ge=0)
    """Weight of the chosen answer's negative log-likelihood per token (nats). Keeps chosen answers likely, where DPO
    alone may lower both (arXiv:2404.19733). With `tail` below 1, of its discounted likelihood."""
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl"
    """What keeps the model near the reference; reverse KL is DPO's own (arXiv:2309.16240)."""
    alpha: float = 0.5
    """Order of the alpha divergence; at 1 it is the reverse KL."""
    tail: float = Field(default=1.0, gt=0, le=1)
    """Weight of the tokens by which the longer answer exceeds the shorter (LD-DPO); below 1 length counts less."""
    tau: float = Field(default=0.05, gt=0)
    """Temperature of DiscoPOP's blend."""

    @model_validator(mode="after")
    def _sorted_ratios_have_one_divergence(self) -> DPO:
        if self.whole_step and self.divergence != "reverse_kl":
            raise ValueError("aot sorts log-ratios, so its divergence is reverse_kl")
        return self

    @model_validator(mode="after")
    def _settings_are_used(self) -> DPO:
        names = " and ".join(self.mix)
        if self.label_smoothing and not SMOOTHED & set(self.mix):
            raise ValueError(f"{names} knows no label_smoothing; those that do: {', '.join(sorted(SMOOTHED))}")
        fields = type(self).model_fields
        if self.tau != fields["tau"].default and "discopop" not in self.mix:
            raise ValueError(f"tau is discopop's, and the variant is {names}")
        if self.alpha != fields["alpha"].default and self.divergence != "alpha":
            raise ValueError(f"alpha is the alpha divergence's, and the divergence is {self.divergence}")
        return self

    @property
    def mix(self) -> Mapping[str, float]:
        return {self.variant: 1.0} if isinstance(self.variant, str) else dict(self.variant.items())

    @property
    def whole_step(self) -> bool:  # type: ignore[override]  # here it depends on a setting
        return bool(WHOLE_STEP & set(self.mix))

    def loss(self, policy: PairLogprobs, reference: PairLogprobs) -> LossOutput:
        """Sum of the losses of B pairs."""
        chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
        scores = Scores(self._slope(chosen), self._slope(rejected), policy, reference, self.beta,
                        self.label_smoothing, self.tau)  # fmt: skip
        loss = sum((weight * LOSSES[name][0](scores).sum() for name, weight in self.mix.items()), chosen.new_zeros(()))
        if self.sft:
            loss = loss - self.sft * (policy.chosen / policy.chosen_tokens).sum()
        return LossOutput(loss, pair_metrics(chosen, rejected))

    def _slope(self, ratio: Tensor) -> Tensor:
        """f'(e^ratio), up to what cancels in a margin."""
        import torch
        from torch.nn.functional import logsigmoid

        if self.divergence == "forward_kl":
            return 1 - torch.exp(-ratio)
        if self.divergence == "js":
            return math.log(2) + logsigmoid(ratio)
        if self.divergence == "alpha" and abs(self.alpha - 1) > 1e-6:
            return torch.expm1((self.alpha - 1) * ratio) / (self.alpha - 1)
        return ratio
