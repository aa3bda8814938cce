"""FastChat's side of `ranking.py`, in the peers' environment: prints one JSON line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas

sys.path.insert(0, str(Path(sys.argv[3]) / "fastchat" / "serve" / "monitor"))
from rating_systems import compute_bootstrap_bt, compute_bt

if __name__ == "__main__":
    votes = pandas.read_parquet(sys.argv[1])
    start = time.perf_counter()
    ratings = compute_bt(votes)
    compute_bootstrap_bt(votes, int(sys.argv[2]))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "ratings": {str(name): float(value) for name, value in ratings.items()}}))
