"""Our side of `ranking.py`, in a process of its own: prints one JSON line."""

from __future__ import annotations

import json
import sys
import time

import pyarrow.parquet

from burnish.evaluation.ranking import battles, rank

OUTCOMES = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}

if __name__ == "__main__":
    table = pyarrow.parquet.read_table(sys.argv[1]).to_pydict()
    rows = [(a, b, OUTCOMES[winner], "") for a, b, winner in zip(*table.values(), strict=True)]
    start = time.perf_counter()
    found = rank(battles(rows), rounds=int(sys.argv[2]))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "ratings": dict(zip(found.models, found.ratings.tolist(), strict=True))}))
