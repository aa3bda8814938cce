"""Win rates of a duel: what counts as an answer, what goes together, and what people's labels correct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from burnish.engines.scripted import Scripted
from burnish.evaluation.duels import Duel, duel
from burnish.evaluation.runner import Outcome
from burnish.types import Example, Message, Score, Verdict


class Always:
    """Prefers the candidate whose answer says so."""

    def compare(self, engine: Any, items: Sequence[Example], firsts: Sequence[str], seconds: Sequence[str]
                ) -> list[Verdict]:  # fmt: skip
        return [Verdict(float("good" in first)) for first in firsts]


def fought(texts: Sequence[str], clusters: Sequence[str] = (), **more: Any) -> Duel:
    """The candidate's texts against a baseline that says 'base' to everything."""
    names = clusters or [""] * len(texts)
    items = [Example(str(n), (Message("user", f"ask {n}"),), meta={"cluster": name}) for n, name in enumerate(names)]
    new, base = (
        [Outcome(str(n), "t", Score(None if text == "failed" else 0.0, error="no" if text == "failed" else None),
                 "" if text == "failed" else text, 1) for n, text in enumerate(side)]
        for side in (texts, ["base"] * len(texts))
    )  # fmt: skip
    return duel(Always(), Scripted(["x"]), items, {"base": base, "new": new}, **more)  # type: ignore[arg-type]


def test_an_empty_answer_is_an_answer_and_a_failed_request_is_none() -> None:
    found = fought(["good"] * 4 + [""] * 4 + ["failed"] * 2)
    assert (found.wins.n, found.wins.mean) == (8, 0.5)


def test_items_that_share_a_source_count_together() -> None:
    texts = ["good"] * 10 + ["bad"] * 10 + ["good"] * 10 + ["bad"] * 10
    alone, together = fought(texts), fought(texts, [f"text {n // 10}" for n in range(40)])
    assert together.wins.mean == alone.wins.mean == 0.5
    assert together.wins.high - together.wins.low > 2 * (alone.wins.high - alone.wins.low)


def test_ties_are_known_to_people_too() -> None:
    labels = {(f"ask {n}", "new", "base"): 1.0 for n in range(20)}
    found = fought(["good"] * 20 + ["base"] * 20, labels=labels)
    assert found.wins.mean == 0.75 and found.corrected is not None
    # everything that differs is labelled: 20 of 20 for the candidate, and 20 ties
    assert found.corrected.estimate.mean == pytest.approx(0.75)
    assert found.corrected.humans.n == 20
