"""Where the time and the tokens went: one row a step, and thirds of data, training and evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from burnish.workspace import Manifest

PHASES = ("data", "training", "evaluation")


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One step. `seconds` is wall time over all attempts; the counts are what engines and trainers reported."""

    step: str
    phase: str
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    trained_tokens: int
    calls: int


def ledger(manifests: Iterable[tuple[str, Manifest]]) -> list[LedgerRow]:
    """Rows from (step name, manifest). An artifact that several names share is counted once."""
    rows, seen = [], set()
    for name, manifest in manifests:
        if manifest.id in seen or manifest.phase not in PHASES:
            continue
        seen.add(manifest.id)
        usage = {key: manifest.usage.get(key, 0) for key in ("prompt_tokens", "completion_tokens", "trained_tokens")}
        calls = manifest.usage.get("calls", 0)
        rows.append(LedgerRow(name, manifest.phase, manifest.seconds, **usage, calls=calls))
    return rows


def shares(rows: Iterable[LedgerRow]) -> dict[str, float]:
    """Seconds of each phase."""
    total = dict.fromkeys(PHASES, 0.0)
    for row in rows:
        total[row.phase] += row.seconds
    return total
