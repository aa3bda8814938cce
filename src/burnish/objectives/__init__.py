"""Losses: each a file of arithmetic on log-probabilities, without models, trainers or data."""

from burnish.registry import Entry, Registry

OBJECTIVES = Registry(
    "objective",
    [
        Entry("sft", "burnish.objectives.sft:SFT", "mean negative log-likelihood of learned tokens"),
        Entry("dpo", "burnish.objectives.dpo:DPO", "direct preference optimization and its family", "arXiv:2305.18290"),
        Entry(
            "simpo", "burnish.objectives.reference_free:SimPO", "likelihood a token, with a margin", "arXiv:2405.14734"
        ),
        Entry("cpo", "burnish.objectives.reference_free:CPO", "contrastive, held by likelihood", "arXiv:2401.08417"),
        Entry("orpo", "burnish.objectives.reference_free:ORPO", "fine-tuning with an odds ratio", "arXiv:2403.07691"),
    ],
)
