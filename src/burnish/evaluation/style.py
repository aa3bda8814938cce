"""The style of answers, so that a ranking can tell it from their substance.

Four counts of each answer: words, headings, list items and bold phrases. A vote's features are the differences between
its two answers, relative to what both have together, and scaled to standard deviation 1 over the votes. Source: the
style control of Chatbot Arena (LMSYS, "Does style matter?", 2024).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from burnish.errors import EvaluationError
from burnish.evaluation.ranking import Battles

PATTERNS = {
    "words": re.compile(r"\S+"),
    "headings": re.compile(r"^#{1,6}\s", re.MULTILINE),
    "list items": re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s", re.MULTILINE),
    "bold phrases": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def counts(answer: str) -> list[int]:
    """How much of each feature an answer has; what stands in fenced code has words and no style."""
    prose = FENCED.sub("", answer)
    return [len(pattern.findall(answer if name == "words" else prose)) for name, pattern in PATTERNS.items()]


def with_style(votes: Battles, answers: Iterable[tuple[str, str]]) -> Battles:
    """Votes with the style of their answers, (first, second) in the order of the votes.

    Features that no two answers differ in are left out. Raises EvaluationError when there is none, for votes that were
    kept without their answers.
    """
    both = np.array([[counts(first), counts(second)] for first, second in answers], dtype=np.float64)
    features: NDArray[np.float64] = (both[:, 0] - both[:, 1]) / (both[:, 0] + both[:, 1] + 1)
    spread = features.std(axis=0)
    differs = spread > 0
    if not differs.any():
        raise EvaluationError("the votes' answers do not differ in style", hint="were they kept with the votes?")
    names = tuple(name for name, kept in zip(PATTERNS, differs, strict=True) if kept)
    return replace(votes, features=features[:, differs] / spread[differs], feature_names=names)
