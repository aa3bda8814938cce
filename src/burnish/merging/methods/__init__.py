"""Merge methods: arithmetic on the tensors of one name."""

from burnish.registry import Entry, Registry

METHODS = Registry(
    "merge method",
    [
        Entry("linear", "burnish.merging.methods.linear:Linear", "weighted mean of parameters", "arXiv:2203.05482"),
        Entry("slerp", "burnish.merging.methods.slerp:Slerp", "along the arc between two models", "Shoemake 1985"),
    ],
)
