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
        Entry("kto", "burnish.objectives.kto:KTO", "single answers, found good or bad", "arXiv:2402.01306"),
        Entry(
            "bradley_terry",
            "burnish.objectives.reward:BradleyTerry",
            "score of chosen above rejected",
            "arXiv:2203.02155",
        ),
        Entry("steps", "burnish.objectives.reward:Steps", "log-odds that each step is right", "arXiv:2305.20050"),
        Entry("distill", "burnish.objectives.distill:Distill", "divergence from a teacher", "arXiv:2306.13649"),
    ],
    {
        **{name: f"`{{dpo: {{variant: {name}}}}}`" for name in (
            "robust", "hinge", "ipo", "bco", "sppo", "nca", "exo", "apo_zero", "apo_down", "aot", "aot_unpaired",
            "discopop", "normalized",
        )},
        "rm": "`bradley_terry`", "prm": "`steps`", "dft": "`{sft: {dynamic: true}}`",
    },
)  # fmt: skip
