"""`burnish run`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer

from burnish.cli.options import AsJson, Overrides, RecipePath, StorePath, open_store, print_json
from burnish.ledger import ledger, shares
from burnish.recipe.load import load_recipe
from burnish.recipe.plan import Plan
from burnish.recipe.run import RunResult, run_plan
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
    """
    results = []
    first = load_recipe(recipe, overrides).config.seed
    for seed in range(first, first + seeds):
        began = time.perf_counter()
        loaded = load_recipe(recipe, [*(overrides or []), *([f"seed={seed}"] if seeds > 1 else [])])
        results.append(run_plan(Plan(loaded, open_store(store))))
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
