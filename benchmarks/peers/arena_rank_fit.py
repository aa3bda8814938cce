"""arena-rank's side of `ranking.py`, in its own environment: prints one JSON line."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time

import pandas
from arena_rank.models.bradley_terry import BradleyTerry
from arena_rank.utils.data_utils import PairDataset

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")  # it bootstraps in a pool, and a fork of JAX's threads hangs
    votes = pandas.read_parquet(sys.argv[1])
    start = time.perf_counter()
    data = PairDataset.from_pandas(votes)
    model = BradleyTerry(n_competitors=len(data.competitors))
    found = model.compute_ratings_and_cis(data, ci_method="bootstrap", num_bootstrap=int(sys.argv[2]))
    seconds = time.perf_counter() - start
    ratings = {str(name): float(value) for name, value in zip(data.competitors, found["ratings"], strict=True)}
    print(json.dumps({"seconds": seconds, "ratings": ratings}))
