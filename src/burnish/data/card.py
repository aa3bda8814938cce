"""Facts about a dataset, for its manifest and for readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.types import Example, PreferencePair

PERCENTILES = (5, 50, 95, 100)


def card(rows: Sequence[Example | PreferencePair]) -> dict[str, Any]:
    """Counts by source and skill, turns, and percentiles of lengths in words."""
    facts: dict[str, Any] = {"rows": len(rows)}
    if not rows:
        return facts
    facts["sources"] = _counts(row.source.rpartition(":")[0] or row.source or "unnamed" for row in rows)
    facts["skills"] = _counts(str(row.meta["skill"]) for row in rows if "skill" in row.meta)
    examples = [row for row in rows if isinstance(row, Example)]
    pairs = [row for row in rows if isinstance(row, PreferencePair)]
    if examples:
        facts["turns"] = _spread([len(row.messages) for row in examples])
        facts["answer_words"] = _spread([len(row.messages[-1].content.split()) for row in examples])
        facts["graded"] = sum(row.grader is not None for row in examples)
    if pairs:
        facts["turns"] = _spread([len(row.prompt) for row in pairs])
        facts["chosen_words"] = _spread([len(row.chosen.split()) for row in pairs])
        facts["rejected_words"] = _spread([len(row.rejected.split()) for row in pairs])
        facts["chosen_longer"] = sum(len(row.chosen) > len(row.rejected) for row in pairs) / len(pairs)
    return facts


def _counts(names: Any) -> dict[str, int]:
    return dict(Counter(names).most_common(20))


def _spread(values: list[int]) -> dict[str, float]:
    return {f"p{mark}": float(np.percentile(values, mark)) for mark in PERCENTILES}


def card_markdown(facts: dict[str, Any]) -> str:
    """The card as a page."""
    lines = ["# Dataset", "", f"{facts['rows']} rows."]
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += ["", f"## {name.replace('_', ' ')}", "", "| | |", "|---|---|"]
            lines += [f"| {key} | {count:g} |" for key, count in value.items()]
        elif name != "rows" and not isinstance(value, dict):
            lines += ["", f"{name.replace('_', ' ')}: {value:.3g}"]
    return "\n".join(lines) + "\n"
