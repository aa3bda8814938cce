"""Spending more tokens on an answer: draw several samples, and let a strategy pick one."""

from burnish.registry import Entry, Registry

_FILES = "burnish.test_time.strategies"

STRATEGIES = Registry(
    "strategy",
    [
        Entry("majority", f"{_FILES}.majority:Majority", "the most frequent answer", "arXiv:2203.11171"),
        Entry("best_of_n", f"{_FILES}.best_of_n:BestOfN", "the sample with the best score"),
    ],
)
