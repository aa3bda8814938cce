"""Models that score answers."""

from burnish.registry import Entry, Registry

JUDGES = Registry(
    "judge",
    [
        Entry("pointwise", "burnish.judges.pointwise:Pointwise", "rate each answer alone", "arXiv:2306.05685"),
    ],
)
