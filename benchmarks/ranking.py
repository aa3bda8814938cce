"""Rankings beside FastChat's and arena-rank's: the same million votes on 200 models, with 200 bootstrap rounds.

    python benchmarks/ranking.py --fastchat CHECKOUT      # a checkout of lm-sys/FastChat; left out, its side is skipped

The peers live in an environment of their own (.peers/ranking, made on the first run). Each side runs in a process of
its own; what counts is the time from the votes in memory to ratings with intervals. They take a tie as half a win and
we do not, so ratings are compared on votes without ties. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from sides import interpreter, measure

PEER_VERSIONS = ["arena-rank==0.1.1", "pyarrow", "tqdm", "scipy"]


def peer_python() -> str:
    """The peer's interpreter."""
    return interpreter("ranking", [*PEER_VERSIONS], ours_too=False)


def write_votes(path: Path, models: int, votes: int, ties: float) -> None:
    """Votes drawn from Davidson's model."""
    rng = np.random.default_rng(0)
    strengths = rng.normal(size=models)
    first = rng.integers(models, size=votes)
    second = (first + 1 + rng.integers(models - 1, size=votes)) % models
    gap = strengths[first] - strengths[second]
    shares = np.stack([np.exp(gap / 2), np.exp(-gap / 2), np.full(votes, ties)], axis=1)
    chosen = (rng.random(votes)[:, None] * shares.sum(1, keepdims=True) > shares.cumsum(1)).sum(1)
    names = np.array([f"model-{k:03}" for k in range(models)])
    winner = np.array(["model_a", "model_b", "tie"])[chosen]
    table = {"model_a": names[first], "model_b": names[second], "winner": winner}
    pyarrow.parquet.write_table(pyarrow.table(table), path)


def difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """Largest difference of ratings in points, each side's mean taken out."""
    shift = statistics.mean(ours.values()) - statistics.mean(theirs.values())
    return max(abs(ours[name] - theirs[name] - shift) for name in theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fastchat", type=Path, help="a checkout of lm-sys/FastChat")
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--votes", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200, help="bootstrap rounds")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, ties in (("with ties", 0.5), ("without ties", 0.0)):
            file = Path(folder) / "votes.parquet"
            write_votes(file, options.models, options.votes, ties)
            sides = {"ours": measure(sys.executable, "ours_ranking.py", file, options.rounds)}
            sides["arena-rank"] = measure(peer_python(), "peers/arena_rank_fit.py", file, options.rounds)
            if options.fastchat:
                sides["fastchat"] = measure(
                    peer_python(), "peers/fastchat_fit.py", file, options.rounds, options.fastchat
                )
            for name, side in sides.items():
                apart = difference(sides["ours"]["ratings"], side["ratings"])
                print(f"{kind:13} {name:11} {side['seconds']:7.2f} s, {side['seconds'] / sides['ours']['seconds']:5.1f}"
                      f" times ours, ratings differ by at most {apart:.3f} points", flush=True)  # fmt: skip
                results[f"{name} {kind}"] = {
                    "seconds": round(side["seconds"], 2),
                    "largest_difference": round(apart, 4),
                }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
