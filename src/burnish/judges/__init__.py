"""Judges of answers. Each rates single answers (`score`) and compares two (`compare`)."""

from burnish.registry import Entry, Registry

JUDGES = Registry(
    "judge",
    [
        Entry("pointwise", "burnish.judges.pointwise:Pointwise", "rate each answer alone", "arXiv:2306.05685"),
        Entry("pairwise", "burnish.judges.pairwise:Pairwise", "compare two answers in both orders", "arXiv:2306.05685"),
        Entry("reward", "burnish.judges.reward:RewardModel", "a trained reward model's score", "arXiv:2009.01325"),
    ],
)
