"""Spending more tokens on an answer: draw several samples, and let a strategy pick one."""

from burnish.registry import Entry, Registry

STRATEGIES = Registry(
    "strategy",
    [
        Entry("majority", "burnish.test_time.strategies.majority:Majority", "the most frequent answer",
              "arXiv:2203.11171"),
        Entry("best_of_n", "burnish.test_time.strategies.best_of_n:BestOfN", "the sample with the best score"),
    ],
)  # fmt: skip
