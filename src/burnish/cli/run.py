"""`burnish run`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from burnish import parallel
from burnish.cli.options import AsJson, Overrides, RecipePath, StorePath, open_store, print_json
from burnish.ledger import ledger, shares
from burnish.recipe.load import Recipe, load_recipe
from burnish.recipe.plan import Plan
from burnish.recipe.run import RunResult, help_plan, run_plan
from burnish.recipe.seeds import Across, across


def command(
    recipe: RecipePath,
    overrides: Overrides = None,
    store: StorePath = None,
    seeds: Annotated[int, typer.Option(min=1, help="Run with this many seeds, from the recipe's own on.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: freeze the suites, measure the baseline, then every step in order.

    Finished steps are taken from the store. A run that was stopped or killed goes on where it was when the same
    command is given again. Results, checkpoints and the report stay in the store.

    \b
    Several processes, on a machine with several GPUs for example, share the training steps:
      torchrun --nproc-per-node 2 -m burnish run mine.yaml
    Each holds the whole model; `train: {shard: true}` splits it (FSDP2).
    """
    with parallel.together():
        if parallel.leads():
            _lead(recipe, overrides, store, seeds, as_json)
        else:
            _help(recipe, overrides, store, seeds)


def _help(recipe: Path, overrides: list[str] | None, store: Path | None, seeds: int) -> None:
    """Do a helper's share of the recipe with every seed."""
    first = load_recipe(recipe, overrides).config.seed
    for seed in range(first, first + seeds):
        help_plan(Plan(_with_seed(recipe, overrides, seed, seeds), open_store(store)))


def _with_seed(recipe: Path, overrides: list[str] | None, seed: int, seeds: int) -> Recipe:
    return load_recipe(recipe, [*(overrides or []), *([f"seed={seed}"] if seeds > 1 else [])])


def _lead(recipe: Path, overrides: list[str] | None, store: Path | None, seeds: int, as_json: bool) -> None:
    """Run the recipe with every seed, and say what came out."""
    results = []
    first = load_recipe(recipe, overrides).config.seed
    for seed in range(first, first + seeds):
        began = time.perf_counter()
        results.append(run_plan(Plan(_with_seed(recipe, overrides, seed, seeds), open_store(store))))
        if not as_json:
            _print(results[-1], time.perf_counter() - began)
    if as_json:
        runs = [_summary(result) for result in results]
        print_json(runs[0] if seeds == 1 else {"runs": runs, "across": [asdict(row) for row in across(results)]})
    elif seeds > 1:
        _print_across(across(results), seeds)


def _summary(result: RunResult) -> dict[str, object]:
    return {
        "run": str(result.folder),
        "report": str(result.report),
        "made": result.made,
        "artifacts": {name: artifact.id for name, artifact in result.artifacts.items()},
    }


def _print(result: RunResult, seconds: float) -> None:
    spent = shares(ledger((name, artifact.manifest) for name, artifact in result.artifacts.items()))
    total = sum(spent.values()) or 1.0
    parts = ", ".join(f"{phase} {value:.0f} s ({value / total:.0%})" for phase, value in spent.items())
    cached = len(result.artifacts) - len(result.made)
    print(f"{len(result.made)} steps made, {cached} cached, in {seconds:.1f} s. Ledger of all steps: {parts}")
    print(f"report: {result.report}")
    sys.stdout.flush()


def _print_across(rows: list[Across], seeds: int) -> None:
    """Means over the seeds, a table for each suite."""
    for suite in dict.fromkeys(row.suite for row in rows):
        print(f"\n{suite}: mean of {seeds} seeds with its 95% interval, and each seed")
        for row in (row for row in rows if row.suite == suite):
            mean, high = row.estimate.mean, row.estimate.high
            each = "  ".join(f"{value:.1%}" for value in row.values)
            print(f"  {row.what:<24} {mean:6.1%} ± {high - mean:<6.1%}  {each}")
