"""What both sides of `evaluation.py` do alike: run lm-eval's MMLU on local data, time the model's part, print JSON."""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("subjects", nargs="+")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only-first", action="store_true", help="the first subject alone")
    return parser.parse_args()


def run(given: argparse.Namespace, make: Callable[[argparse.Namespace], Any]) -> None:
    """Score the subjects with the model that `make` loads, and print one line of JSON."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_CACHE"] = str(given.work / "datasets")
    import lm_eval

    logging.disable(logging.WARNING)
    model = make(given)
    spent = []
    original = model.loglikelihood

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        found = original(*arguments, **named)
        spent.append(time.perf_counter() - start)
        return found

    model.loglikelihood = timed
    subjects = given.subjects[:1] if given.only_first else given.subjects
    tasks = [{"task": f"mmlu_{name}", "dataset_path": str(given.work / "data")} for name in subjects]
    found = lm_eval.simple_evaluate(model, tasks=[{"group": "mmlu here", "task": tasks}], num_fewshot=5,
                                    limit=given.limit, bootstrap_iters=0)  # fmt: skip
    samples = [sample for name in sorted(found["samples"]) for sample in found["samples"][name]]
    values = [[float(value) for (value, _), *_ in sample["resps"]] for sample in samples]
    print(json.dumps({
        "questions": len(samples), "seconds": sum(spent),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "answers": [max(range(len(row)), key=row.__getitem__) for row in values], "values": values,
    }))  # fmt: skip
