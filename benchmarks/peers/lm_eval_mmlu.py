"""lm-eval's side of `evaluation.py`, in its own environment: prints one JSON line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
import mmlu_side


def load(given: argparse.Namespace) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(given.work / "model"), dtype=given.dtype, batch_size=given.batch, device="cpu")


if __name__ == "__main__":
    mmlu_side.run(mmlu_side.options(), load)
