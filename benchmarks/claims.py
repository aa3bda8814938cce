"""Two claims about evaluation, measured on Pebble: what a small trained judge is worth, and when a benchmark misleads.

    python benchmarks/claims.py                     # about 15 minutes on two cores

A base is fine-tuned to an assistant (`sft`). A reward model learns from its graded answers to training prompts: the
judge. Two candidates start from `sft`: `honest` learns from more conversations, `leaky` learns the benchmark's own
answers by heart, as happens when test items get into training data. (A recipe would refuse that: a training step's data
must be certified clean of its suites, so the leak is hidden here behind a suite of other items.) The benchmark compares
both with `sft`; so does the judge on new questions, with 50 human labels. People are simulated by the world's own
graders, which know the truth. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.data.io import read_examples
from burnish.evaluation.stats import kappa, mean_interval, prediction_powered
from burnish.evaluation.tasks import freeze
from burnish.recipe.load import recipe_from
from burnish.recipe.plan import Plan
from burnish.recipe.run import RunResult, run_plan
from burnish.rewards import grade
from burnish.types import Example
from burnish.workspace import Workspace

SKILLS = ["arithmetic", "word_problems", "units", "sorting", "reading"]
LEAKED, FRESH = [{"pebble": {"skills": SKILLS, "n": 60}}], [{"pebble": {"skills": SKILLS, "n": 200}}]
FRESH_SEED = 7
LABELS = 50
DRAWS = 1000
"""Sets of labelled pairs that are drawn to see how often an interval holds the truth."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "burnish-claims",
                        help="folder for the store")  # fmt: skip
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    store = Workspace(options.work / "store")
    trained = run_plan(Plan(recipe_from("claims-train", training(options.work)), store))
    models = {name: named(options.work / name, trained.artifacts[name].file("model"))
              for name in ("sft", "honest", "leaky", "judge")}  # fmt: skip
    blind = run_plan(Plan(recipe_from("claims-blind", comparing(models, None)), store))
    truth = {name: true_preferences(blind, name, models) for name in ("honest", "leaky")}
    labels = write_labels(options.work / "labels.jsonl", truth, models)
    seen = run_plan(Plan(recipe_from("claims-scorecard", comparing(models, labels)), store))
    found = {"judge": judge_claims(truth), "decisions": decisions(seen, truth, models)}
    print(json.dumps(found))


def named(link: Path, folder: Path) -> str:
    """A model's folder under a name that can be read in a report."""
    link.unlink(missing_ok=True)
    link.symlink_to(folder.resolve())
    return str(link)


def training(work: Path) -> dict[str, Any]:
    """The recipe that makes the models."""
    leak = work / "leak.jsonl"
    turns = [[("user", item.prompt[-1].content), ("assistant", item.meta["solution"])] for item in freeze(LEAKED, 0)]
    rows = [{"messages": [{"role": role, "content": text} for role, text in talk]} for talk in turns]
    leak.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fit = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 32}

    def clean(data: str) -> dict[str, Any]:
        return {"use": "filter", "data": data, "with": [{"decontaminate": {"against": ["guard"]}}]}

    return {
        "base": "pebble", "seed": 0,
        "suites": {"guard": {"tasks": [{"pebble": {"skills": ["dialogue"], "n": 20}}]}},
        "steps": {
            "chats": {"use": "ingest", "from": {"pebble": {"n": 6000}}}, "clean": clean("$chats"),
            "more": {"use": "ingest", "from": {"pebble": {"n": 3000, "skills": SKILLS}}}, "more_clean": clean("$more"),
            "leak": {"use": "ingest", "from": str(leak)}, "leak_clean": clean("$leak"),
            "sft": {"use": "sft", "data": "$clean", "train": {**fit, "learning_rate": 2e-3}},
            "honest": {"use": "sft", "model": "$sft", "data": "$more_clean", "train": fit},
            "leaky": {"use": "sft", "model": "$sft", "data": "$leak_clean", "train": {**fit, "epochs": 12}},
            "pairs": {"use": "preferences", "prompts": "$more_clean", "models": ["$sft"], "n": 6, "temperature": 1.0,
                      "max_tokens": 128, "limit": 3000, "pairs_per_prompt": 6},
            "judge": {"use": "reward", "model": "$sft", "data": "$pairs",
                      "train": {"learning_rate": 5e-4, "epochs": 3, "batch_size": 32}},
        },
    }  # fmt: skip


def comparing(models: dict[str, str], labels: Path | None) -> dict[str, Any]:
    """The recipe that compares the candidates with the assistant they come from."""
    candidates = [models["honest"], models["leaky"]]
    duel = {
        "use": "duel",
        "models": candidates,
        "suite": "fresh",
        "judge": {"model": models["judge"]},
        "max_tokens": 128,
    }
    return {
        "base": models["sft"],
        "suites": {"benchmark": {"tasks": LEAKED}, "fresh": {"tasks": FRESH, "seed": FRESH_SEED}},
        "steps": {
            "scores": {"use": "evaluate", "models": candidates, "suites": ["benchmark"], "max_tokens": 128},
            "duel": duel if labels is None else {**duel, "labels": str(labels)},
            "verdict": {"use": "scorecard", "of": ["$scores", "$duel"]},
            "page": {"use": "report", "title": "Can the evaluation be fooled?"},
        },
    }  # fmt: skip


def true_preferences(result: RunResult, name: str, models: dict[str, str]) -> list[dict[str, Any]]:
    """For each new question that two models answer in different words: the judge's and the true preference."""
    artifact = result.artifacts["duel"]
    suite = next(one for key, one in result.artifacts.items() if key == "suite:fresh")
    items: dict[str, Example] = {item.id: item for item in read_examples(suite.file("items.jsonl"))}
    rows = []
    for line in artifact.file("verdicts.jsonl").open(encoding="utf-8"):
        pair = json.loads(line)
        if pair["first_model"] != models[name]:
            continue
        item = items[pair["id"]]
        first, second = (grade(item, pair[side]).value or 0.0 for side in ("first", "second"))
        rows.append({"prompt": item.prompt[-1].content, "judge": pair["verdict"]["preference"],
                     "truth": 0.5 if first == second else float(first > second)})  # fmt: skip
    return rows


def write_labels(path: Path, truth: dict[str, list[dict[str, Any]]], models: dict[str, str]) -> Path:
    """What people would say of some pairs of each candidate, drawn by chance."""
    with path.open("w", encoding="utf-8") as stream:
        for name, rows in truth.items():
            for row in random.Random(f"labels {name}").sample(rows, LABELS):
                label = {"prompt": row["prompt"], "model": models[name], "baseline": "base", "preference": row["truth"]}
                stream.write(json.dumps(label) + "\n")
    return path


def judge_claims(truth: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """How well the judge agrees with the truth, and what 50 labels make of it."""
    rows = [row for found in truth.values() for row in found]
    decided = [row for row in rows if row["truth"] != 0.5]
    calls = [float(row["judge"] > 0.5) for row in decided]
    right = [row["truth"] for row in decided]
    agreed = mean_interval([float(a == b) for a, b in zip(calls, right, strict=True)])
    found: dict[str, Any] = {"decided": len(decided), "agreement": asdict(agreed), "kappa": asdict(kappa(calls, right))}
    print(f"judge and truth agree on {agreed.mean:.1%} [{agreed.low:.1%}, {agreed.high:.1%}] of {len(decided)} pairs of"
          f" which one is right, kappa {found['kappa']['mean']:.2f}")  # fmt: skip
    found["correction"] = {name: correction(name, pairs) for name, pairs in truth.items()}
    return found


def correction(name: str, pairs: list[dict[str, Any]]) -> dict[str, float]:
    """Intervals from many sets of 50 labels against the true win rate."""
    real = statistics.mean(row["truth"] for row in pairs)
    rng, kept = random.Random(f"draws {name}"), {"judge": [], "humans": [], "corrected": []}
    widths: dict[str, list[float]] = {key: [] for key in kept}
    for _ in range(DRAWS):
        order = rng.sample(range(len(pairs)), len(pairs))
        labelled, rest = [pairs[k] for k in order[:LABELS]], [pairs[k] for k in order[LABELS:]]
        one = prediction_powered([row["truth"] for row in labelled], [row["judge"] for row in labelled],
                                 [row["judge"] for row in rest])  # fmt: skip
        for key, interval in (("judge", one.judge), ("humans", one.humans), ("corrected", one.estimate)):
            kept[key].append(interval.low <= real <= interval.high)
            widths[key].append(interval.high - interval.low)
    said = {"true_win_rate": real, "judge_win_rate": statistics.mean(row["judge"] for row in pairs)}
    for key in kept:
        said |= {f"{key}_holds": statistics.mean(kept[key]), f"{key}_width": statistics.mean(widths[key])}
    print(f"{name}: true win rate {real:.1%} over {len(pairs)} pairs, the judge says {said['judge_win_rate']:.1%}")
    for key in kept:
        print(f"  {key:<10} interval of {said[f'{key}_width']:.3f} holds the truth in {said[f'{key}_holds']:.0%} of"
              f" {DRAWS} draws of {LABELS} labels")  # fmt: skip
    return said


def decisions(result: RunResult, truth: dict[str, list[dict[str, Any]]], models: dict[str, str]) -> dict[str, Any]:
    """What the benchmark alone and the scorecard say of each candidate."""
    found = {}
    rows = {row["model"]: row for row in result.artifacts["verdict"].manifest.summary["decisions"]}
    for name in truth:
        row = rows[models[name]]
        (benchmark,) = (one for one in row["evidence"] if one["source"] == "benchmark")
        alone = "promote" if benchmark["low"] > 0 else "hold" if benchmark["high"] < 0 else "collect more"
        real = statistics.mean(one["truth"] for one in truth[name])
        found[name] = {"benchmark_alone": alone, "scorecard": row["action"], "reason": row["reason"],
                       "true_win_rate": real, "evidence": row["evidence"]}  # fmt: skip
        print(f"{name}: benchmark alone says {alone} ({100 * benchmark['lead']:+.1f} points), scorecard says"
              f" {row['action']}: {row['reason']}; people truly prefer it in {real:.1%}")  # fmt: skip
    found["report"] = str(result.report)
    return found


if __name__ == "__main__":
    main()
