"""Our side of `evaluation.py`, in a process of its own: prints one JSON line."""

from __future__ import annotations

import argparse

import mmlu_side

from burnish.engines.local import open_engine
from burnish.evaluation.harness import Harness


def load(given: argparse.Namespace) -> Harness:
    return Harness(open_engine(str(given.work / "model"), dtype=given.dtype))


if __name__ == "__main__":
    mmlu_side.run(mmlu_side.options(), load)
