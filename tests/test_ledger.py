"""Where the time went."""

from __future__ import annotations

from burnish.ledger import ledger, shares
from burnish.workspace import Manifest


def manifest(name: str, phase: str, seconds: float) -> Manifest:
    return Manifest(
        id=name, kind="dataset", use="ingest", step=name, config={}, inputs={}, seed=0, code="", versions={},
        phase=phase, seconds=seconds, usage={"trained_tokens": 5, "calls": 1}, made_at="",
    )  # fmt: skip


def test_shares_and_shared_artifacts_count_once() -> None:
    base = manifest("m", "evaluation", 4.0)
    rows = ledger(
        [("chats", manifest("a", "data", 1.0)), ("sft", manifest("b", "training", 3.0)),
         ("baseline", base), ("scores/base", base), ("report", manifest("r", "report", 9.0))]
    )  # fmt: skip
    assert [row.step for row in rows] == ["chats", "sft", "baseline"]
    assert shares(rows) == {"data": 1.0, "training": 3.0, "evaluation": 4.0}
    assert rows[1].trained_tokens == 5 and rows[1].calls == 1 and rows[1].prompt_tokens == 0
