"""Losses: each a file of arithmetic on log-probabilities, without models, trainers or data."""

from burnish.registry import Entry, Registry

OBJECTIVES = Registry(
    "objective",
    [
        Entry("sft", "burnish.objectives.sft:SFT", "mean negative log-likelihood of learned tokens"),
        Entry("dpo", "burnish.objectives.dpo:DPO", "direct preference optimization", "arXiv:2305.18290"),
    ],
)
